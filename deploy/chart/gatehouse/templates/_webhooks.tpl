{{- define "gatehouse.client" -}}
{{- $root := index . 0 }}{{ $url := index . 1 }}{{ $service := index . 2 }}{{ $path := index . 3 -}}
{{- if $url -}}
clientConfig: {url: {{ printf "%s%s" $url $path | quote }}}
{{- else -}}
clientConfig:
  service: {namespace: {{ $root.Release.Namespace }}, name: {{ $service }}, path: {{ $path }}, port: 443}
{{- end }}
{{- end }}

{{- define "gatehouse.namespaceSelector" -}}
namespaceSelector:
  matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: NotIn, values: [{{ join ", " (index . 1) }}]}
{{- with (index . 0).Values.webhook.namespaceExpressions }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if (index . 0).Values.webhook.kritisOptOutLabel }}
  - {key: kritis-validation, operator: NotIn, values: [disabled]}
{{- end }}
{{- end }}

{{/* Whether an image is of our own repository; c is a container. */}}
{{- define "gatehouse.ours" -}}
(c.?image.orValue("").startsWith({{ printf "%s:" .Values.image.repository | quote }}) || c.?image.orValue("").startsWith({{ printf "%s@" .Values.image.repository | quote }}))
{{- end }}

{{/* The list that the controller puts in force. */}}
{{- define "gatehouse.validating" -}}
- name: imagepolicywebhook.image-policy.k8s.io
  {{- include "gatehouse.client" (list . .Values.webhook.url .Release.Name "/validate") | nindent 2 }}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers], scope: Namespaced}
  {{- include "gatehouse.namespaceSelector" (list . .Values.webhook.exemptNamespaces) | nindent 2 }}
  matchConditions:
  - name: not-in-deletion
    expression: request.operation != "UPDATE" || !has(oldObject.metadata.deletionTimestamp)
  - name: some-image-is-new
    expression: >-
      request.operation != "UPDATE" ||
      object.spec.containers.map(c, c.?image.orValue("")) != oldObject.spec.containers.map(c, c.?image.orValue("")) ||
      object.spec.?initContainers.orValue([]).map(c, c.?image.orValue("")) != oldObject.spec.?initContainers.orValue([]).map(c, c.?image.orValue("")) ||
      object.spec.?ephemeralContainers.orValue([]).map(c, c.?image.orValue("")) != oldObject.spec.?ephemeralContainers.orValue([]).map(c, c.?image.orValue("")) ||
      object.spec.?volumes.orValue([]).map(v, v.?image.?reference.orValue("")) != oldObject.spec.?volumes.orValue([]).map(v, v.?image.?reference.orValue(""))
{{- if .Values.webhook.exemptOwnPods }}
  - name: not-gatehouse-itself
    expression: >-
      request.namespace != {{ .Release.Namespace | quote }} ||
      !(object.spec.containers.all(c, {{ include "gatehouse.ours" . }}) &&
      object.spec.?initContainers.orValue([]).all(c, {{ include "gatehouse.ours" . }}) &&
      object.spec.?ephemeralContainers.orValue([]).all(c, {{ include "gatehouse.ours" . }}) &&
      !object.spec.?volumes.orValue([]).exists(v, has(v.image)))
{{- end }}
  failurePolicy: {{ .Values.webhook.failurePolicy }}
  matchPolicy: Equivalent
  sideEffects: NoneOnDryRun
  timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
  admissionReviewVersions: [v1]
{{- if .Values.webhook.templates }}
- name: templates.gatehouse.dev
  {{- include "gatehouse.client" (list . .Values.webhook.url .Release.Name "/validate") | nindent 2 }}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [replicationcontrollers, podtemplates], scope: Namespaced}
  - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, replicasets, statefulsets, daemonsets], scope: Namespaced}
  - {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [jobs, cronjobs], scope: Namespaced}
  {{- include "gatehouse.namespaceSelector" (list . .Values.webhook.exemptNamespaces) | nindent 2 }}
  matchConditions:
  - name: not-in-deletion
    expression: request.operation != "UPDATE" || !has(oldObject.metadata.deletionTimestamp)
  - name: the-template-is-new
    expression: >-
      request.operation != "UPDATE" ||
      object.?template != oldObject.?template ||
      object.?spec.?template != oldObject.?spec.?template ||
      object.?spec.?jobTemplate != oldObject.?spec.?jobTemplate
{{- if .Values.webhook.exemptOwnPods }}
  - name: not-gatehouse-itself
    expression: >-
      request.namespace != {{ .Release.Namespace | quote }} ||
      !(object.?spec.?template.?spec.?containers.orValue([]).size() > 0 &&
      object.spec.template.spec.containers.all(c, {{ include "gatehouse.ours" . }}) &&
      object.spec.template.spec.?initContainers.orValue([]).all(c, {{ include "gatehouse.ours" . }}))
{{- end }}
  failurePolicy: Ignore
  matchPolicy: Equivalent
  sideEffects: NoneOnDryRun
  timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
  admissionReviewVersions: [v1]
{{- end }}
{{- with .Values.webhook.customRules }}
- name: custom.gatehouse.dev
  {{- include "gatehouse.client" (list $ $.Values.webhook.url $.Release.Name "/validate") | nindent 2 }}
  rules:
{{ toYaml . | indent 2 }}
  {{- include "gatehouse.namespaceSelector" (list $ $.Values.webhook.exemptNamespaces) | nindent 2 }}
  matchConditions:
  - name: not-in-deletion
    expression: request.operation != "UPDATE" || !has(oldObject.metadata.deletionTimestamp)
  - name: the-spec-is-new
    expression: request.operation != "UPDATE" || object.?spec != oldObject.?spec
  failurePolicy: Ignore
  matchPolicy: Equivalent
  sideEffects: NoneOnDryRun
  timeoutSeconds: {{ $.Values.webhook.timeoutSeconds }}
  admissionReviewVersions: [v1]
{{- end }}
{{- end }}

{{- define "gatehouse.mutating" -}}
- name: pods.pin.gatehouse.dev
  {{- include "gatehouse.client" (list . .Values.mutate.url (printf "%s-mutate" .Release.Name) "/mutate") | nindent 2 }}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers], scope: Namespaced}
  {{- include "gatehouse.namespaceSelector" (list . (append .Values.webhook.exemptNamespaces .Release.Namespace)) | nindent 2 }}
  matchConditions:
  - name: not-in-deletion
    expression: request.operation != "UPDATE" || !has(oldObject.metadata.deletionTimestamp)
  - name: some-image-has-no-digest
    expression: >-
      object.spec.containers.exists(c, !c.?image.orValue("").contains("@")) ||
      object.spec.?initContainers.orValue([]).exists(c, !c.?image.orValue("").contains("@")) ||
      object.spec.?ephemeralContainers.orValue([]).exists(c, !c.?image.orValue("").contains("@")) ||
      object.spec.?volumes.orValue([]).exists(v, has(v.image) && !v.image.?reference.orValue("").contains("@"))
  failurePolicy: Ignore
  reinvocationPolicy: IfNeeded
  matchPolicy: Equivalent
  sideEffects: None
  timeoutSeconds: {{ .Values.mutate.timeoutSeconds }}
  admissionReviewVersions: [v1]
{{- if or (eq .Values.mutate.pin "templates") .Values.mutate.namespaces }}
- name: templates.pin.gatehouse.dev
  {{- include "gatehouse.client" (list . .Values.mutate.url (printf "%s-mutate" .Release.Name) "/mutate") | nindent 2 }}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [replicationcontrollers, podtemplates], scope: Namespaced}
  - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, statefulsets, daemonsets, replicasets], scope: Namespaced}
  - {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [cronjobs], scope: Namespaced}
  {{- include "gatehouse.namespaceSelector" (list . (append .Values.webhook.exemptNamespaces .Release.Namespace)) | nindent 2 }}
  failurePolicy: Ignore
  reinvocationPolicy: IfNeeded
  matchPolicy: Equivalent
  sideEffects: None
  timeoutSeconds: {{ .Values.mutate.timeoutSeconds }}
  admissionReviewVersions: [v1]
{{- end }}
{{- end }}
