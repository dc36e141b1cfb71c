# Apache Kafka for ./with: one node that is broker and controller. Tests make their own topics, users and ACLs as the administrator.

kafka_version=4.1.0

kafka_programs() {
  need java default-jre-headless
  need openssl openssl
  local major
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge 17 ] || fail "Kafka wants Java 17, not $major: apt-get install openjdk-17-jre-headless, or brew install openjdk"
  [ -z "${TESTBED_KAFKA_HOME:-}" ] || return 0
  local script kept=$cache/kafka-$kafka_version into
  for script in kafka-server-start kafka-server-start.sh; do
    script=$(command -v "$script") || continue
    script=$(dirname "$(readlink -f "$script")")
    for found in "$script/../libs" "$script/../libexec/libs"; do
      [ -z "$(echo "$found"/kafka_2.13-4.1.*.jar)" ] || { export TESTBED_KAFKA_HOME=$found; return 0; }
    done
  done
  if [ ! -d "$kept" ]; then
    mkdir -p "$cache" && into=$(mktemp -d "$cache/XXXXXX")
    undo+=("rm -rf $into")
    cat >"$into/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion><groupId>testbed</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
POM
    maven -f "$into/pom.xml" dependency:copy-dependencies -DoutputDirectory="$into/jars" || fail "Maven could not get Kafka"
    [ -d "$kept" ] || mv "$into/jars" "$kept"
  fi
  export TESTBED_KAFKA_HOME=$kept
}

# certify FILE NAME makes a certificate that nobody but its owner signed, for this machine, FILE.pem, and its key, FILE.key.
certify() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$2" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$1.key" -out "$1.pem" >"$work/openssl.log" 2>&1 || { cat "$work/openssl.log" >&2; fail "openssl made no certificate"; }
}

# kafka starts the broker that tests share.
kafka() {
  local data=$work/kafka config=$work/kafka.properties log=$work/kafka.log certificates=$work/certificates password plain sasl tls mutual controller
  password=$(random)
  mkdir "$certificates"
  certify "$certificates/broker" 127.0.0.1
  certify "$certificates/admin" testbed-admin
  cat "$certificates/broker.key" "$certificates/broker.pem" >"$certificates/broker.both"
  cp "$certificates/admin.pem" "$certificates/trusted.pem"
  for _ in 1 2 3 4 5; do
    read -r plain sasl tls mutual controller <<<"$(ports 5)"
    rm -rf "$data"
    sed -e "s/{plain}/$plain/g; s/{sasl}/$sasl/g; s/{tls}/$tls/g; s/{mutual}/$mutual/g; s/{controller}/$controller/g; s|{data}|$data|g; s|{certificates}|$certificates|g" \
      "$here/servers/kafka.properties" >"$config"
    during java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$TESTBED_KAFKA_HOME/*" kafka.tools.StorageTool format -t "$(random | cut -c1-22)" -c "$config" \
      --add-scram "SCRAM-SHA-512=[name=testbed-admin,password=$password]" >"$log" 2>&1 || break
    signal=KILL # it would take its time; the data is thrown away
    java -Xmx512m -cp "$TESTBED_KAFKA_HOME/*" kafka.Kafka "$config" >"$log" 2>&1 &
    job=$!
    if alive "$log" 'Kafka Server started'; then
      say "Kafka $kafka_version at port $sasl"
      up kafka "TESTBED_KAFKA=127.0.0.1:$sasl" "TESTBED_KAFKA_ADMIN=testbed-admin:$password" "TESTBED_KAFKA_PLAIN=127.0.0.1:$plain" \
        "TESTBED_KAFKA_TLS=127.0.0.1:$tls" "TESTBED_KAFKA_MUTUAL=127.0.0.1:$mutual" "TESTBED_KAFKA_CERTIFICATES=$certificates"
      return
    fi
    grep -q 'Address already in use' "$log" || break
  done
  tail -n 40 "$log" >&2
  fail "Kafka did not start"
}
