# RabbitMQ for ./with: the program alone. Each test has a broker of its own, that asks the test who may do what.

rabbitmq_program() {
  [ -z "${TESTBED_RABBITMQ:-}" ] || return 0
  if ! rabbitmq_found && installs; then
    install rabbitmq-server || fail "rabbitmq-server could not be installed"
    ! command -v systemctl >/dev/null || systemctl disable -q rabbitmq-server epmd.socket epmd 2>/dev/null || true # nor at the next boot
    rabbitmq_found || true
  fi
  if [ -n "$found" ]; then export TESTBED_RABBITMQ=$found; else leave RabbitMQ "apt-get install rabbitmq-server, or brew install rabbitmq"; fi
}

# Debian's rabbitmq-server in PATH insists on root or its own user and starts by su: the one behind it does neither.
rabbitmq_found() {
  for found in /usr/lib/rabbitmq/bin/rabbitmq-server /opt/homebrew/sbin/rabbitmq-server /usr/local/sbin/rabbitmq-server; do
    [ ! -x "$found" ] || return 0
  done
  found=
  return 1
}
