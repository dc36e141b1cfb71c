# PostgreSQL for ./with: 15 and 18, each with an administrator whose password is random.

# As a user that PostgreSQL runs as: it refuses root. A prefix and not a function, so that $! is the server itself.
as=(env)
if [ "$(id -u)" = 0 ]; then
  owner=$(getent passwd postgres >/dev/null && echo postgres || echo nobody)
  as=(setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups --)
fi

postgres_programs() {
  if [ -z "${TESTBED_POSTGRES_BIN:-}" ]; then
    postgres_found 15 15.15.0
    export TESTBED_POSTGRES_BIN=$found
  fi
  if [ -z "${TESTBED_POSTGRES_NEWEST:-}" ]; then
    postgres_found 18 18.1.0
    newest=$found
  fi
  [ -z "${TESTBED_POSTGRES_CLIENTS:-}" ] || return 0
  if ! postgres_clients && installs; then
    install postgresql-client || fail "postgresql-client could not be installed"
    postgres_clients || true
  fi
  if [ -n "$found" ]; then export TESTBED_POSTGRES_CLIENTS=$found; else leave "PostgreSQL's clients" "psql and pg_dump, 15 or newer: apt-get install postgresql-client, or brew install libpq"; fi
}

# postgres_clients makes $found a folder with psql and pg_dump, which Maven has not; a pg_dump older than the server refuses it.
postgres_clients() {
  for found in "$TESTBED_POSTGRES_BIN" "$(dirname "$(command -v pg_dump || echo /none/pg_dump)")" /opt/homebrew/opt/libpq/bin /usr/local/opt/libpq/bin; do
    if [ -x "$found/psql" ] && [ -x "$found/pg_dump" ] && "$found/pg_dump" --version 2>/dev/null | grep -qE ' (1[5-9]|[2-9][0-9])'; then return; fi
  done
  found=
  return 1
}

# postgres_found MAJOR VERSION makes $found the folder of a server's programs; VERSION is the one that Maven has.
postgres_found() {
  for found in "/usr/lib/postgresql/$1/bin" "$(dirname "$(command -v initdb || echo /none/initdb)")"; do
    if [ -x "$found/initdb" ] && "$found/initdb" --version | grep -q " $1\."; then return; fi
  done
  local kind into kept
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) kind=linux-amd64 ;; Linux-aarch64) kind=linux-arm64v8 ;;
    Darwin-arm64) kind=darwin-arm64v8 ;; Darwin-x86_64) kind=darwin-amd64 ;;
    *) fail "no PostgreSQL $1 for this machine; name one in the environment" ;;
  esac
  kept=$cache/postgres-$2-$kind
  if [ ! -x "$kept/bin/initdb" ]; then
    if installs; then
      apt-get update -qq >&2 || true
      if [ -n "$(apt-cache madison "postgresql-$1" 2>/dev/null)" ]; then
        mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        install "postgresql-$1" || fail "postgresql-$1 could not be installed"
        found=/usr/lib/postgresql/$1/bin
        return
      fi
    fi
    need unzip unzip && need xz xz-utils
    mkdir -p "$cache" && into=$(mktemp -d "$cache/XXXXXX")
    undo+=("rm -rf $into")
    maven dependency:copy -Dartifact="io.zonky.test.postgres:embedded-postgres-binaries-$kind:$2" -DoutputDirectory="$into" || fail "Maven could not get PostgreSQL $1"
    unzip -q -d "$into" "$into"/*.jar && mkdir "$into/out" && tar -xJf "$into"/*.txz -C "$into/out"
    rm -rf "$kept" && mv "$into/out" "$kept"
  fi
  # PostgreSQL's user must be able to read it, wherever the cache is.
  cp -R "$kept" "$work/postgres-$2" && chmod -R a+rX "$work/postgres-$2"
  found=$work/postgres-$2/bin
}

# postgres VARIABLE MAJOR BIN starts a cluster.
postgres() {
  local data=$work/pg$2 password port
  password=$(random)
  mkdir "$data" && echo "$password" >"$work/pw$2"
  [ "${as[0]}" = env ] || chown "$owner" "$data" "$work/pw$2"
  during "${as[@]}" "$3/initdb" -D "$data" -U postgres --auth=scram-sha-256 --pwfile="$work/pw$2" --locale=C --encoding=UTF8 --no-sync >"$work/initdb$2.log" 2>&1 || { cat "$work/initdb$2.log" >&2; fail "initdb of PostgreSQL $2"; }
  for _ in 1 2 3 4 5; do
    port=$(ports 1 | tr -d ' ')
    signal=QUIT # at once; the data is thrown away
    "${as[@]}" "$3/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 >"$work/pg$2.log" 2>&1 &
    job=$!
    if alive "$data/postmaster.pid" '^ready'; then
      say "PostgreSQL $("$3/postgres" --version | awk '{print $3}') at port $port"
      up "pg$2" "$1=postgres://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable"
      return
    fi
    grep -q 'could not bind' "$work/pg$2.log" || break
  done
  cat "$work/pg$2.log" >&2
  fail "PostgreSQL $2 did not start"
}
