{{/* Names, labels and what all pods share. A component's name is its binary's. */}}

{{- define "ringfence.fullname" -}}
{{- if contains "ringfence" .Release.Name }}{{ .Release.Name | trunc 30 | trimSuffix "-" }}{{ else }}{{ printf "%s-ringfence" .Release.Name | trunc 30 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ringfence.selector" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "ringfence.labels" -}}
{{ include "ringfence.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ringfence.image" -}}
{{- $own := .tag -}}
{{- with .root.Values.image }}{{ .repository }}{{ if and .digest (not $own) }}@{{ .digest }}{{ else }}:{{ $own | default .tag | default $.root.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "ringfence.pod" -}}
serviceAccountName: {{ include "ringfence.fullname" .root }}-{{ .component }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ringfence.container" -}}
image: {{ include "ringfence.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* What a service account, a disruption budget and a service of metrics are of each component. */}}
{{- define "ringfence.companions" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "ringfence.fullname" .root }}-{{ .component }}
  labels: {{- include "ringfence.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "ringfence.fullname" .root }}-{{ .component }}
  labels: {{- include "ringfence.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "ringfence.selector" . | nindent 6 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "ringfence.fullname" .root }}-{{ .component }}-metrics
  labels:
    {{- include "ringfence.labels" . | nindent 4 }}
    ringfence.metrics: "true"
spec:
  clusterIP: None
  publishNotReadyAddresses: true # who is not ready has metrics that say why
  selector: {{- include "ringfence.selector" . | nindent 4 }}
  ports:
    - {name: metrics, port: 9090, targetPort: metrics, protocol: TCP}
{{- end }}

{{/* The pods of a service: .values is what the component is told, .env, .mounts and .volumes what it alone has. */}}
{{- define "ringfence.service" -}}
{{- $v := .root.Values -}}
metadata:
  labels: {{- include "ringfence.labels" . | nindent 4 }}
  {{- with .values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "ringfence.pod" . | nindent 2 }}
  terminationGracePeriodSeconds: 30
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "ringfence.selector" . | nindent 10 }}
  {{- with .values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "ringfence.container" (dict "root" .root "tag" .values.tag) | nindent 6 }}
      command: [/usr/bin/{{ .component }}]
      env:
        - {name: RINGFENCE_LOG_LEVEL, value: {{ $v.logLevel | quote }}}
        - {name: RINGFENCE_METRICS_LISTEN, value: "0.0.0.0:9090"}
        - {name: RINGFENCE_METRICS_PLAIN_HTTP, value: "true"}
        - {name: RINGFENCE_REPLICAS, value: {{ .values.replicas | int | quote }}}
        - {name: RINGFENCE_DATABASE_URL_FILE, value: /run/ringfence/database/url}
        - {name: RINGFENCE_DATABASE_PLAINTEXT, value: {{ $v.database.plaintext | quote }}}
        - {name: RINGFENCE_KAFKA_BROKERS, value: {{ $v.kafka.brokers | quote }}}
        - {name: RINGFENCE_KAFKA_PREFIX, value: {{ $v.kafka.prefix | quote }}}
        - {name: RINGFENCE_KAFKA_PLAINTEXT, value: {{ $v.kafka.plaintext | quote }}}
        {{- with .values.kafka.user }}
        - {name: RINGFENCE_KAFKA_USER, value: {{ . | quote }}}
        - {name: RINGFENCE_KAFKA_PASSWORD_FILE, value: /run/ringfence/kafka/password}
        {{- end }}
        {{- if $v.kafka.caSecret }}
        - {name: RINGFENCE_KAFKA_CA_FILE, value: /run/ringfence/kafka-ca/ca.crt}
        {{- end }}
        {{- if $v.kafka.clientSecret }}
        - {name: RINGFENCE_KAFKA_CERT_FILE, value: /run/ringfence/kafka-client/tls.crt}
        - {name: RINGFENCE_KAFKA_KEY_FILE, value: /run/ringfence/kafka-client/tls.key}
        {{- end }}
        {{- with $v.telemetry }}
        {{- if .endpoint }}
        - {name: RINGFENCE_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
        - {name: RINGFENCE_OTLP_RATIO, value: {{ .ratio | quote }}}
        - {name: RINGFENCE_OTLP_PLAINTEXT, value: {{ .plaintext | quote }}}
        {{- if .headers.secret }}
        - {name: RINGFENCE_OTLP_HEADERS_FILE, value: /run/ringfence/telemetry/headers}
        {{- end }}
        {{- if .caSecret }}
        - {name: RINGFENCE_OTLP_CA_FILE, value: /run/ringfence/telemetry-ca/ca.crt}
        {{- end }}
        {{- if .clientSecret }}
        - {name: RINGFENCE_OTLP_CERT_FILE, value: /run/ringfence/telemetry-client/tls.crt}
        - {name: RINGFENCE_OTLP_KEY_FILE, value: /run/ringfence/telemetry-client/tls.key}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- .env | nindent 8 }}
        {{- range $key, $value := .values.settings }}
        - {name: RINGFENCE_{{ upper $key }}, value: {{ if kindIs "float64" $value }}{{ $value | int64 | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}}
        {{- end }}
      ports:
        - {name: metrics, containerPort: 9090, protocol: TCP}
        {{- with .ports }}
        {{- . | nindent 8 }}
        {{- end }}
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 3
        timeoutSeconds: 3
        failureThreshold: 2
      resources: {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: database, mountPath: /run/ringfence/database, readOnly: true}
        {{- if $v.database.caSecret }}
        - {name: database-ca, mountPath: /run/ringfence/database-ca, readOnly: true}
        {{- end }}
        {{- if $v.database.clientSecret }}
        - {name: database-client, mountPath: /run/ringfence/database-client, readOnly: true}
        {{- end }}
        {{- if .values.kafka.user }}
        - {name: kafka, mountPath: /run/ringfence/kafka, readOnly: true}
        {{- end }}
        {{- if $v.kafka.caSecret }}
        - {name: kafka-ca, mountPath: /run/ringfence/kafka-ca, readOnly: true}
        {{- end }}
        {{- if $v.kafka.clientSecret }}
        - {name: kafka-client, mountPath: /run/ringfence/kafka-client, readOnly: true}
        {{- end }}
        {{- if and $v.telemetry.endpoint $v.telemetry.headers.secret }}
        - {name: telemetry, mountPath: /run/ringfence/telemetry, readOnly: true}
        {{- end }}
        {{- if and $v.telemetry.endpoint $v.telemetry.caSecret }}
        - {name: telemetry-ca, mountPath: /run/ringfence/telemetry-ca, readOnly: true}
        {{- end }}
        {{- if and $v.telemetry.endpoint $v.telemetry.clientSecret }}
        - {name: telemetry-client, mountPath: /run/ringfence/telemetry-client, readOnly: true}
        {{- end }}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: database
      {{- include "ringfence.file" (dict "ref" (ternary $v.database.reader $v.database.runtime (eq .component "mqtt-ingestion-worker")) "as" "url") | nindent 6 }}
    {{- if $v.database.caSecret }}
    - {name: database-ca, secret: {secretName: {{ $v.database.caSecret }}, items: [{key: ca.crt, path: ca.crt}]}}
    {{- end }}
    {{- if $v.database.clientSecret }}
    - {name: database-client, secret: {secretName: {{ $v.database.clientSecret }}, defaultMode: 0440}}
    {{- end }}
    {{- if .values.kafka.user }}
    - name: kafka
      {{- include "ringfence.file" (dict "ref" .values.kafka "as" "password") | nindent 6 }}
    {{- end }}
    {{- if $v.kafka.caSecret }}
    - {name: kafka-ca, secret: {secretName: {{ $v.kafka.caSecret }}, items: [{key: ca.crt, path: ca.crt}]}}
    {{- end }}
    {{- if $v.kafka.clientSecret }}
    - {name: kafka-client, secret: {secretName: {{ $v.kafka.clientSecret }}, defaultMode: 0440}}
    {{- end }}
    {{- if and $v.telemetry.endpoint $v.telemetry.headers.secret }}
    - name: telemetry
      {{- include "ringfence.file" (dict "ref" $v.telemetry.headers "as" "headers") | nindent 6 }}
    {{- end }}
    {{- if and $v.telemetry.endpoint $v.telemetry.caSecret }}
    - {name: telemetry-ca, secret: {secretName: {{ $v.telemetry.caSecret }}, items: [{key: ca.crt, path: ca.crt}]}}
    {{- end }}
    {{- if and $v.telemetry.endpoint $v.telemetry.clientSecret }}
    - {name: telemetry-client, secret: {secretName: {{ $v.telemetry.clientSecret }}, defaultMode: 0440}}
    {{- end }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* One key of a secret as one file: nothing else of it is mounted. */}}
{{- define "ringfence.file" -}}
secret:
  secretName: {{ .ref.secret }}
  defaultMode: 0440
  items: [{key: {{ .ref.key }}, path: {{ .as }}}]
{{- end }}
