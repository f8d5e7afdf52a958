{{/* What all Services that clients use have in common. Arguments: root, annotations. */}}
{{- define "causeway.serviceSpec" -}}
{{- $service := .root.Values.service -}}
type: {{ $service.type }}
{{- if ne $service.type "ClusterIP" }}
externalTrafficPolicy: {{ $service.externalTrafficPolicy }}
{{- end }}
{{- if eq $service.type "LoadBalancer" }}
{{- with $service.loadBalancerClass }}
loadBalancerClass: {{ . }}
{{- end }}
{{- if include "causeway.oneAddress" .root }}
# Deprecated, and still what load balancers of every cloud look at.
loadBalancerIP: {{ .root.Values.perPod.address }}
{{- end }}
allocateLoadBalancerNodePorts: {{ $service.allocateNodePorts }}
{{- with $service.sourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
sessionAffinity: {{ $service.sessionAffinity }}
{{- end -}}

{{- define "causeway.serviceMetadata" -}}
labels:
  {{- include "causeway.labels" .root | nindent 2 }}
  {{- with .root.Values.service.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (deepCopy .annotations) .root.Values.service.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "causeway.controlPorts" -}}
{{- range $name := (include "causeway.listeners" . | fromJson).names }}
{{- $listener := get $.Values.listeners $name }}
- name: {{ $name }}
  port: {{ $listener.port }}
  targetPort: {{ $name }}
  protocol: TCP
  {{- if and $listener.nodePort (ne $.Values.service.type "ClusterIP") }}
  nodePort: {{ $listener.nodePort }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* One port each: a Service knows no ranges. Arguments: root, ordinal. */}}
{{- define "causeway.passivePorts" -}}
{{- $root := .root -}}
{{- $ordinal := .ordinal -}}
{{- range $index, $name := (include "causeway.listeners" $root | fromJson).names }}
{{- $slice := include "causeway.slice" (dict "root" $root "ordinal" $ordinal "index" $index) | fromJson }}
{{- range $port := untilStep (int $slice.first) (add (int $slice.last) 1 | int) 1 }}
- name: data-{{ $port }}
  port: {{ $port }}
  targetPort: {{ $port }}
  protocol: TCP
  {{- if eq $root.Values.service.type "NodePort" }}
  nodePort: {{ $port }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
