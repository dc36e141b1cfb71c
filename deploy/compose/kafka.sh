#!/bin/bash
# One Kafka node, broker and controller, that knows its users by SCRAM and lets nobody do what no access list says.
set -euo pipefail
sed "s/{admin-password}/$(cat /run/secrets/kafka-admin)/" /etc/ringfence/kafka.properties >/tmp/server.properties
users=()
for name in admin platform-api event-worker mqtt-ingestion-worker; do
  users+=(--add-scram "SCRAM-SHA-512=[name=$name,password=$(cat "/run/secrets/kafka-$name")]")
done
# Once: what is formatted keeps its users.
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted -t Ug9vZmVuY2UtY29tcG9zZQ -c /tmp/server.properties "${users[@]}"
exec /opt/kafka/bin/kafka-server-start.sh /tmp/server.properties
