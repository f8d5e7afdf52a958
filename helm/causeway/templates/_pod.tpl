{{/* The pod of every topology. */}}
{{- define "causeway.podTemplate" -}}
{{- $values := .Values -}}
metadata:
  labels:
    {{- include "causeway.labels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: causeway
    {{- if $values.rollOnConfigChange }}
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "causeway.serviceAccountName" . }}
  automountServiceAccountToken: {{ include "causeway.readsService" . | eq "true" }}
  enableServiceLinks: false
  {{- if eq $values.topology "hostNetwork" }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  terminationGracePeriodSeconds: {{ include "causeway.gracePeriod" . }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: causeway
      image: {{ include "causeway.image" . | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        - serve
        {{- if eq $values.topology "perPod" }}
        - --config=/etc/causeway/config/$(POD_NAME).yaml
        {{- else }}
        - --config=/etc/causeway/config/causeway.yaml
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- if eq (include "causeway.publicAddressFrom" .) "hostIP" }}
        - name: HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or $values.backendCredentials.existingSecret $values.extraEnvFrom }}
      envFrom:
        {{- with $values.backendCredentials.existingSecret }}
        - secretRef:
            name: {{ . }}
        {{- end }}
        {{- with $values.extraEnvFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        {{- range $name := (include "causeway.listeners" . | fromJson).names }}
        {{- $port := (get $values.listeners $name).containerPort }}
        - name: {{ $name }}
          containerPort: {{ $port }}
          {{- if eq $values.topology "hostNetwork" }}
          hostPort: {{ $port }}
          {{- end }}
          protocol: TCP
        {{- end }}
        - name: admin
          containerPort: {{ $values.admin.port }}
          {{- if eq $values.topology "hostNetwork" }}
          hostPort: {{ $values.admin.port }}
          {{- end }}
          protocol: TCP
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if $values.preStopSeconds }}
      lifecycle:
        preStop:
          # Still serving: the load balancer learns meanwhile that this pod goes.
          sleep:
            seconds: {{ $values.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/causeway/config, readOnly: true}
        - {name: admin, mountPath: /etc/causeway/admin, readOnly: true}
        {{- if include "causeway.tlsSecret" . }}
        - {name: tls, mountPath: /etc/causeway/tls, readOnly: true}
        {{- end }}
        {{- if include "causeway.usersSecret" . }}
        - {name: users, mountPath: /etc/causeway/users, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "causeway.fullname" . }}
    - name: admin
      secret:
        secretName: {{ include "causeway.adminSecret" . }}
        defaultMode: 0440
    {{- with include "causeway.tlsSecret" . }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with include "causeway.usersSecret" . }}
    - name: users
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml $values.topologySpreadConstraints | nindent 4 }}
  {{- else if eq $values.topology "perPod" }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "causeway.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}
