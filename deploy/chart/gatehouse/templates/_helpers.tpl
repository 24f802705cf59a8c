{{- define "gatehouse.labels" -}}
app.kubernetes.io/name: gatehouse
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: gatehouse
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects the pods of a part: (list ROOT PART). */}}
{{- define "gatehouse.selector" -}}
app.kubernetes.io/name: gatehouse
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "gatehouse.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What is the same in the pods of all parts: (list ROOT PART VALUES). */}}
{{- define "gatehouse.pod" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $values := index . 2 -}}
serviceAccountName: {{ $root.Release.Name }}-{{ $part }}
enableServiceLinks: false
terminationGracePeriodSeconds: 150
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "gatehouse.selector" (list $root $part) | nindent 12 }}
{{- end }}

{{/* What is the same in the containers of all parts: (list ROOT PART VALUES). */}}
{{- define "gatehouse.container" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $values := index . 2 -}}
name: {{ $part }}
image: {{ include "gatehouse.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: [serve, --config, /etc/gatehouse/config/gatehouse.yaml, --log-format, json]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
{{ toYaml $values.resources | indent 2 }}
startupProbe:
  httpGet: {path: /healthz, port: ops}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /healthz, port: ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 3
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "gatehouse.metadata" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $values := index . 2 -}}
labels:
  {{- include "gatehouse.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ $part }}
annotations:
  gatehouse.dev/config: {{ include (printf "gatehouse.config.%s" $part) $root | sha256sum }}
{{- if $root.Values.monitoring.scrapeAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: "9090"
{{- end }}
{{- with $values.podAnnotations }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* A token by which a part proves to the server who it is; nobody else takes it. */}}
{{- define "gatehouse.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 288
    sources:
    - serviceAccountToken: {audience: gatehouse, expirationSeconds: 3600, path: token}
{{- end }}

{{/* A serving certificate: (list ROOT PART). */}}
{{- define "gatehouse.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ (index . 0).Release.Name }}-{{ index . 1 }}-tls
    defaultMode: 288
    items:
    - {key: tls.crt, path: tls.crt}
    - {key: tls.key, path: tls.key}
{{- end }}

{{/* The roots by which a part knows the server: (list ROOT PART). */}}
{{- define "gatehouse.caVolume" -}}
{{- $root := index . 0 -}}
- name: ca
{{- if eq $root.Values.certificates.provider "own" }}
  configMap:
    name: {{ $root.Release.Name }}-ca
    optional: true
    items:
    - {key: ca.crt, path: ca.crt}
{{- else }}
  secret:
    secretName: {{ $root.Release.Name }}-{{ index . 1 }}-tls
    defaultMode: 288
    items:
    - {key: ca.crt, path: ca.crt}
{{- end }}
{{- end }}

{{/* How a part follows the server. */}}
{{- define "gatehouse.feed" -}}
server: https://{{ .Release.Name }}-server.{{ .Release.Namespace }}.svc:8080
caFile: /etc/gatehouse/ca/ca.crt
tokenFile: /etc/gatehouse/token/token
{{- end }}

{{/* The parts that run. */}}
{{- define "gatehouse.parts" -}}
parts: [gate, server, controller{{ if .Values.mutate.enabled }}, mutate{{ end }}]
{{- end }}

{{/* The Services with a certificate, by part. */}}
{{- define "gatehouse.served" -}}
gate: {{ .Release.Name }}
server: {{ .Release.Name }}-server
{{- if .Values.mutate.enabled }}
mutate: {{ .Release.Name }}-mutate
{{- end }}
{{- end }}
