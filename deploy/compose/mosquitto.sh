#!/bin/sh
# The passwords are hashed where they lie: a command line would show them.
set -eu
umask 077
printf 'ringfence:%s\nnetwork-server:%s\n' "$(cat /run/secrets/broker)" "$(cat /run/secrets/network-server)" >/tmp/passwords
mosquitto_passwd -U /tmp/passwords
exec mosquitto -c /etc/ringfence/mosquitto.conf
