# Mosquitto for ./with: the program alone. Each test has a broker of its own, with its own settings (deploy/testbed/servers).

mosquitto_program() {
  [ -z "${TESTBED_MOSQUITTO:-}" ] || return 0
  if ! mosquitto_found && installs; then
    install mosquitto || fail "mosquitto could not be installed"
    ! command -v systemctl >/dev/null || systemctl disable -q mosquitto 2>/dev/null || true # nor at the next boot
    mosquitto_found || true
  fi
  if [ -n "$found" ]; then export TESTBED_MOSQUITTO=$found; else leave Mosquitto "apt-get install mosquitto, or brew install mosquitto"; fi
}

mosquitto_found() {
  for found in "$(command -v mosquitto || true)" /usr/sbin/mosquitto /usr/local/sbin/mosquitto /opt/homebrew/sbin/mosquitto; do
    [ ! -x "$found" ] || return 0
  done
  found=
  return 1
}
