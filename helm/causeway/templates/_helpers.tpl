{{- define "causeway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for an ordinal or a suffix behind it: names of Services have 63 characters. */}}
{{- define "causeway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "causeway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "causeway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "causeway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "causeway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "causeway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "causeway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "causeway.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "causeway.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{- .Values.tls.existingSecret -}}
{{- else if .Values.tls.certManager.enabled -}}
{{- printf "%s-tls" (include "causeway.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "causeway.usersSecret" -}}
{{- if .Values.users.existingSecret -}}
{{- .Values.users.existingSecret -}}
{{- else if .Values.users.inline -}}
{{- printf "%s-users" (include "causeway.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "causeway.adminSecret" -}}
{{- default (printf "%s-admin" (include "causeway.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}

{{/* Enabled listeners, in the order of their slices, as JSON: {"names": […]}. */}}
{{- define "causeway.listeners" -}}
{{- $names := list -}}
{{- range $name := list "explicit" "implicit" -}}
{{- if (get $.Values.listeners $name).enabled -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- dict "names" $names | toJson -}}
{{- end -}}

{{/* How many pods have a Service and a slice of their own; one stands for all in the other topologies. */}}
{{- define "causeway.pods" -}}
{{- if ne .Values.topology "perPod" -}}
1
{{- else if .Values.autoscaling.enabled -}}
{{- max (int .Values.autoscaling.maxReplicas) (int .Values.replicas) -}}
{{- else -}}
{{- int .Values.replicas -}}
{{- end -}}
{{- end -}}

{{/* For how many pods the passive range is cut up. */}}
{{- define "causeway.slices" -}}
{{- max (include "causeway.pods" . | int) (int .Values.perPod.slices) -}}
{{- end -}}

{{/* Passive ports of one listener of one pod, as JSON {"first": …, "last": …}: the range is cut into
equal pieces, a remainder stays unused. Arguments: root, ordinal, index of the listener. */}}
{{- define "causeway.slice" -}}
{{- $range := splitList "-" .root.Values.passive.ports -}}
{{- $first := index $range 0 | int -}}
{{- $last := index $range 1 | int -}}
{{- $listeners := len (include "causeway.listeners" .root | fromJson).names -}}
{{- $pieces := mul (include "causeway.slices" .root | int) (max $listeners 1) -}}
{{- $size := div (sub (add $last 1) $first) $pieces -}}
{{- $start := add $first (mul $size (add (mul .ordinal $listeners) .index)) -}}
{{- dict "first" $start "last" (sub (add $start $size) 1) "size" $size | toJson -}}
{{- end -}}

{{- define "causeway.publicAddressFrom" -}}
{{- if .Values.publicAddress.from -}}
{{- .Values.publicAddress.from -}}
{{- else if eq .Values.topology "hostNetwork" -}}
connection
{{- else if include "causeway.oneAddress" . -}}
one
{{- else if eq .Values.service.type "LoadBalancer" -}}
service
{{- else if eq .Values.service.type "ClusterIP" -}}
connection
{{- end -}}
{{- end -}}

{{/* Whether the pods read their own Service. */}}
{{- define "causeway.readsService" -}}
{{- if has (include "causeway.publicAddressFrom" .) (list "service" "annotation") -}}
true
{{- end -}}
{{- end -}}

{{/* The Service whose address a pod's data connections reach. Arguments: root, ordinal. */}}
{{- define "causeway.ownService" -}}
{{- if eq .root.Values.topology "perPod" -}}
{{- printf "%s-%d" (include "causeway.fullname" .root) (int .ordinal) -}}
{{- else -}}
{{- include "causeway.fullname" .root -}}
{{- end -}}
{{- end -}}

{{/* From SIGTERM to the last transfer. */}}
{{- define "causeway.drainSeconds" -}}
{{- add (dig "timeouts" "drain_seconds" 300 .Values.config | int) (dig "timeouts" "drain_delay_seconds" 0 .Values.config | int) -}}
{{- end -}}

{{/* Aborting what is left takes the server up to 30 seconds after the drain; 10 are for the node. */}}
{{- define "causeway.gracePeriod" -}}
{{- $needed := add (int .Values.preStopSeconds) (include "causeway.drainSeconds" . | int) 40 -}}
{{- .Values.terminationGracePeriodSeconds | default $needed | int -}}
{{- end -}}

{{/* All Services have the same address. */}}
{{- define "causeway.oneAddress" -}}
{{- if and (eq .Values.topology "perPod") (eq .Values.perPod.entry "oneAddress") -}}
true
{{- end -}}
{{- end -}}

{{/* Control connections come in by another address than data connections. */}}
{{- define "causeway.splitAddresses" -}}
{{- if and (eq .Values.topology "perPod") (eq .Values.perPod.entry "shared") -}}
true
{{- end -}}
{{- end -}}
