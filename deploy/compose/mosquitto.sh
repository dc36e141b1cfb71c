#!/bin/sh
set -eu
umask 077
mosquitto_passwd -b -c /tmp/passwords ringfence "$(cat /run/secrets/broker)"
exec mosquitto -c /etc/ringfence/mosquitto.conf
