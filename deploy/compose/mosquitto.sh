#!/bin/sh
# The password is hashed where it lies: a command line would show it.
set -eu
umask 077
printf 'ringfence:%s\n' "$(cat /run/secrets/broker)" >/tmp/passwords
mosquitto_passwd -U /tmp/passwords
exec mosquitto -c /etc/ringfence/mosquitto.conf
