{{/* The public address of one pod, as a JSON object with the one key `address`. Arguments: root, ordinal. */}}
{{- define "causeway.address" -}}
{{- $values := .root.Values -}}
{{- $from := include "causeway.publicAddressFrom" .root -}}
{{- $address := "connection" -}}
{{- if eq $from "service" -}}
{{- $address = dict "service" (dict "name" (include "causeway.ownService" .)) -}}
{{- else if eq $from "annotation" -}}
{{- $address = dict "service" (dict "name" (include "causeway.ownService" .) "annotation" $values.publicAddress.annotation) -}}
{{- else if eq $from "values" -}}
{{- $address = index $values.publicAddress.values (int .ordinal) -}}
{{- else if eq $from "names" -}}
{{- $address = dict "dns" (index $values.publicAddress.names (int .ordinal)) -}}
{{- else if eq $from "one" -}}
{{- $address = $values.perPod.address -}}
{{- else if eq $from "proxy" -}}
{{- $address = "from_proxy" -}}
{{- else if eq $from "hostIP" -}}
{{- $address = dict "env" "HOST_IP" -}}
{{- end -}}
{{- dict "address" $address | toJson -}}
{{- end -}}

{{/* The server's configuration of one pod. Arguments: root, ordinal. */}}
{{- define "causeway.config" -}}
{{- $root := .root -}}
{{- $ordinal := .ordinal -}}
{{- $values := $root.Values -}}
{{- $config := deepCopy $values.config -}}

{{- $profiles := get $config "profiles" | default dict -}}
{{- if include "causeway.splitAddresses" $root -}}
{{- range $name, $profile := $profiles -}}
{{- $_ := set $profiles $name (merge (dict "epsv" "off") $profile) -}}
{{- end -}}
{{- $_ := set $profiles "pasv-only" (dict "epsv" "off") -}}
{{- end -}}
{{- if $profiles -}}
{{- $_ := set $config "profiles" $profiles -}}
{{- end -}}

{{- $listeners := list -}}
{{- range $index, $name := (include "causeway.listeners" $root | fromJson).names -}}
{{- $listener := get $values.listeners $name -}}
{{- $slice := include "causeway.slice" (dict "root" $root "ordinal" $ordinal "index" $index) | fromJson -}}
{{- $address := (include "causeway.address" (dict "root" $root "ordinal" $ordinal) | fromJson).address -}}
{{- $options := deepCopy $listener.options -}}
{{- $passive := get $options "passive" | default dict -}}
{{- $_ := set $passive "ports" (printf "%d-%d" (int $slice.first) (int $slice.last)) -}}
{{- $_ := set $passive "address" $address -}}
{{- $_ := set $options "passive" $passive -}}
{{- $_ := set $options "name" $name -}}
{{- $_ := set $options "mode" $name -}}
{{- $_ := set $options "address" (printf "%s:%d" $values.bindAddress (int $listener.containerPort)) -}}
{{- if and (include "causeway.splitAddresses" $root) (not (hasKey $options "profile")) -}}
{{- $_ := set $options "profile" "pasv-only" -}}
{{- end -}}
{{- if $values.proxyProtocol.enabled -}}
{{- $proxy := dict "control" "required" "trusted_networks" $values.proxyProtocol.trustedNetworks -}}
{{- if $values.proxyProtocol.data -}}
{{- $_ := set $proxy "data" "required" -}}
{{- end -}}
{{- $_ := set $options "proxy_protocol" $proxy -}}
{{- end -}}
{{- $listeners = append $listeners $options -}}
{{- end -}}
{{- $_ := set $config "listeners" $listeners -}}

{{- if include "causeway.tlsSecret" $root -}}
{{- $files := dict "certificate_file" "/etc/causeway/tls/tls.crt" "key_file" "/etc/causeway/tls/tls.key" -}}
{{- $_ := set $config "tls" (merge $files (get $config "tls" | default dict)) -}}
{{- end -}}
{{- if include "causeway.usersSecret" $root -}}
{{- $file := dict "file" (printf "/etc/causeway/users/%s" $values.users.key) -}}
{{- $_ := set $config "users" (merge $file (get $config "users" | default dict)) -}}
{{- end -}}
{{- $token := dict "file" (printf "/etc/causeway/admin/%s" $values.admin.key) -}}
{{- $_ := set $config "admin" (dict "address" (printf "%s:%d" $values.bindAddress (int $values.admin.port)) "token" $token) -}}
{{- if not (hasKey $config "log") -}}
{{- $_ := set $config "log" (dict "format" "json") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
