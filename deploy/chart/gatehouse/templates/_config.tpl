{{- define "gatehouse.config.where" -}}
data: /var/lib/gatehouse
project: {{ .Values.project | quote }}
{{- with .Values.cluster }}
cluster: {{ . | quote }}
{{- end }}
{{- with .Values.istioTrustDomain }}
istioTrustDomain: {{ . | quote }}
{{- end }}
ops:
  address: 0.0.0.0:9090
  insecureNoAuth: true
{{- end }}

{{- define "gatehouse.config.gate" -}}
role: admission
{{ include "gatehouse.config.where" . }}
admission:
  address: 0.0.0.0:8443
  certFile: /etc/gatehouse/tls/tls.crt
  keyFile: /etc/gatehouse/tls/tls.key
  drainDelay: 10s
  feed:
    {{- include "gatehouse.feed" . | nindent 4 }}
{{- with .Values.gate.admission }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if or .Values.gate.auditSinks .Values.gate.kubernetesEvents }}
audit:
  sinks:
{{- with .Values.gate.auditSinks }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if .Values.gate.kubernetesEvents }}
  - {name: events, kubernetesEvents: {}}
{{- end }}
{{- end }}
{{- with .Values.breakGlass }}
breakGlass:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{- define "gatehouse.config.server" -}}
{{ include "gatehouse.config.where" . }}
metadata:
  address: 0.0.0.0:8080
  tls:
    certFile: /etc/gatehouse/tls/tls.crt
    keyFile: /etc/gatehouse/tls/tls.key
{{- if .Values.server.postgres.secretName }}
store:
  postgres:
    connectionFile: /etc/gatehouse/postgres/connection
    maxConnections: {{ .Values.server.postgres.maxConnections }}
{{- end }}
identity:
  kubernetes: {enabled: true, audience: gatehouse}
{{- if .Values.server.identity.bearerTokens }}
  bearerTokensFile: /etc/gatehouse/identity/tokens
{{- end }}
{{- if .Values.server.identity.basicUsers }}
  basicUsersFile: /etc/gatehouse/identity/users
{{- end }}
  rules:
  - caller: system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}-gate
    project: {{ .Values.project | quote }}
    roles: [gate]
  - caller: system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}-controller
    project: {{ .Values.project | quote }}
    roles: [gate, clusterController]
{{- if .Values.mutate.enabled }}
  - caller: system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}-mutate
    project: {{ .Values.project | quote }}
    roles: [gate]
{{- end }}
{{- with .Values.server.identity.rules }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if .Values.server.attestor.secretName }}
attestor:
  address: 0.0.0.0:8000
  configFile: /etc/gatehouse/attestor/config.toml
{{- end }}
{{- with .Values.server.registry }}
registry:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.server.notify }}
notify:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.breakGlass }}
breakGlass:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{- define "gatehouse.config.controller" -}}
role: controller
{{ include "gatehouse.config.where" . }}
admission:
{{- with .Values.gate.admission.kritis }}
  kritis:
{{ toYaml . | indent 2 }}
{{- end }}
  feed:
    {{- include "gatehouse.feed" . | nindent 4 }}
controller:
  lease: {namespace: {{ .Release.Namespace }}, name: {{ .Release.Name }}-controller}
  groups: [{{ join ", " .Values.controller.groups }}]
  pods: {label: {{ .Values.controller.labelPods }}, interval: {{ .Values.controller.podsInterval }}}
  certificates: {issuer: {{ .Values.certificates.provider }}, name: {{ .Release.Name }}}
{{- with .Values.controller.attest }}
  attest:
{{ toYaml . | indent 4 }}
{{- end }}
{{- end }}

{{- define "gatehouse.config.mutate" -}}
role: mutate
{{ include "gatehouse.config.where" . }}
mutate:
  address: 0.0.0.0:8444
  pin: {{ .Values.mutate.pin }}
  pullSecrets: {{ .Values.mutate.pullSecrets }}
{{- with .Values.mutate.namespaces }}
  namespaces:
{{ toYaml . | indent 2 }}
{{- end }}
admission:
  certFile: /etc/gatehouse/tls/tls.crt
  keyFile: /etc/gatehouse/tls/tls.key
  drainDelay: 10s
{{- with .Values.gate.admission.hintSignersFiles }}
  hintSignersFiles:
{{ toYaml . | indent 2 }}
  feed:
    {{- include "gatehouse.feed" $ | nindent 4 }}
{{- end }}
{{- with .Values.mutate.registry }}
registry:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
