{{/* Refuses, in words and all at once, what would install and then not work. `tests/helm` asserts every
message. The schema has looked at types before. */}}
{{- define "causeway.validate" -}}
{{- $v := .Values -}}
{{- $config := $v.config -}}
{{- $names := (include "causeway.listeners" . | fromJson).names -}}
{{- $pods := include "causeway.pods" . | int -}}
{{- $slices := include "causeway.slices" . | int -}}
{{- $from := include "causeway.publicAddressFrom" . -}}
{{- $problems := list -}}

{{/* Topology. */}}
{{- if and (eq $v.topology "single") (gt (int $v.replicas) 1) -}}
{{- $problems = append $problems (printf "replicas: %d with topology single, where a data connection could reach another pod than its session; use topology perPod" (int $v.replicas)) -}}
{{- end -}}
{{- if and (eq $v.topology "hostNetwork") (gt (int $v.replicas) 1) -}}
{{- $problems = append $problems (printf "replicas: %d with topology hostNetwork, which runs one pod per node; choose nodes with nodeSelector" (int $v.replicas)) -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (ne $v.topology "perPod") -}}
{{- $problems = append $problems "autoscaling.enabled: only topology perPod can have more or fewer pods" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- $problems = append $problems "autoscaling.minReplicas: larger than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (not $v.autoscaling.cpuPercent) (not $v.autoscaling.transfersPerPod) -}}
{{- $problems = append $problems "autoscaling: neither cpuPercent nor transfersPerPod is set, so nothing would scale" -}}
{{- end -}}
{{- if and (eq $v.topology "hostNetwork") $v.networkPolicy.enabled -}}
{{- $problems = append $problems "networkPolicy.enabled: policies do not apply to pods in the network of their node; use the firewall of the nodes" -}}
{{- end -}}
{{- if and (ne $v.topology "perPod") $v.perPod.serviceAnnotations -}}
{{- $problems = append $problems "perPod.serviceAnnotations: only for topology perPod; use service.annotations" -}}
{{- else if gt (len $v.perPod.serviceAnnotations) $pods -}}
{{- $problems = append $problems (printf "perPod.serviceAnnotations: has %d entries for %d pods" (len $v.perPod.serviceAnnotations) $pods) -}}
{{- end -}}

{{- if and $v.perPod.slices (ne $v.topology "perPod") -}}
{{- $problems = append $problems (printf "perPod.slices: %d with topology %s, where all ports belong to one pod" (int $v.perPod.slices) $v.topology) -}}
{{- else if and $v.perPod.slices (lt (int $v.perPod.slices) $pods) -}}
{{- $problems = append $problems (printf "perPod.slices: %d slices for %d pods" (int $v.perPod.slices) $pods) -}}
{{- end -}}

{{- if include "causeway.oneAddress" . -}}
{{- if not $v.perPod.address -}}
{{- $problems = append $problems "perPod.address: missing with perPod.entry oneAddress; reserve an IPv4 address for all Services" -}}
{{- end -}}
{{- if ne $v.service.type "LoadBalancer" -}}
{{- $problems = append $problems (printf "perPod.entry: oneAddress with service.type %s; only load balancers can give several Services one address" $v.service.type) -}}
{{- end -}}
{{- else if $v.perPod.address -}}
{{- $problems = append $problems "perPod.address: only for topology perPod with entry oneAddress" -}}
{{- end -}}

{{/* Listeners and ports. */}}
{{- if not $names -}}
{{- $problems = append $problems "listeners: enable explicit, implicit or both" -}}
{{- end -}}
{{- $taken := dict (toString $v.admin.port) "admin.port" -}}
{{- $outside := dict -}}
{{- range $name := $names -}}
{{- $listener := get $v.listeners $name -}}
{{- $path := printf "listeners.%s" $name -}}
{{- $port := toString (int $listener.containerPort) -}}
{{- if hasKey $taken $port -}}
{{- $problems = append $problems (printf "%s.containerPort: %s is %s already" $path $port (get $taken $port)) -}}
{{- end -}}
{{- $_ := set $taken $port (printf "%s.containerPort" $path) -}}
{{- if hasKey $outside (toString (int $listener.port)) -}}
{{- $problems = append $problems (printf "%s.port: %d is the port of the other listener already" $path (int $listener.port)) -}}
{{- end -}}
{{- $_ := set $outside (toString (int $listener.port)) $path -}}
{{- if and (lt (int $listener.containerPort) 1024) (not (and (eq $v.topology "hostNetwork") $v.hostNetwork.nodesAllowLowPorts)) -}}
{{- if eq $v.topology "hostNetwork" -}}
{{- $problems = append $problems (printf "%s.containerPort: %s needs a capability that the pod does not have; set `sysctl net.ipv4.ip_unprivileged_port_start` on the nodes and say hostNetwork.nodesAllowLowPorts: true, or use a port above 1023" $path $port) -}}
{{- else -}}
{{- $problems = append $problems (printf "%s.containerPort: %s needs a capability that the pod does not have; leave it above 1023, clients see `port`" $path $port) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "name" "mode" "address" "proxy_protocol" -}}
{{- if hasKey $listener.options $key -}}
{{- $problems = append $problems (printf "%s.options.%s: the chart sets it" $path $key) -}}
{{- end -}}
{{- end -}}
{{- $passive := get $listener.options "passive" | default dict -}}
{{- range $key := list "ports" "address" -}}
{{- if hasKey $passive $key -}}
{{- $problems = append $problems (printf "%s.options.passive.%s: the chart computes it; set %s" $path $key (ternary "passive.ports" "publicAddress" (eq $key "ports"))) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (get $listener.options "clear_text" | default "refuse") "allow") (not $v.allowClearText) -}}
{{- $problems = append $problems (printf "%s.options.clear_text: allow would expose passwords and files in the clear; say allowClearText: true if that is meant" $path) -}}
{{- end -}}
{{- if and (ne $v.topology "hostNetwork") (ne $v.service.type "ClusterIP") (eq $v.service.externalTrafficPolicy "Cluster") (not $v.proxyProtocol.enabled) (eq (get $passive "data_peer" | default "same-address") "same-address") -}}
{{- $problems = append $problems (printf "service.externalTrafficPolicy: Cluster hides the client's address, so listener %s would refuse data connections as somebody else's; use Local, PROXY protocol, or listeners.%s.options.passive.data_peer: any" $name $name) -}}
{{- end -}}
{{- end -}}

{{/* Passive ports. */}}
{{- $range := splitList "-" $v.passive.ports -}}
{{- $first := index $range 0 | int -}}
{{- $last := index $range 1 | int -}}
{{- if or (lt $first 1024) (gt $last 65535) (gt $first $last) -}}
{{- $problems = append $problems (printf "passive.ports: %s is no range between 1024 and 65535" $v.passive.ports) -}}
{{- else if $names -}}
{{- $count := sub (add $last 1) $first | int -}}
{{- $needed := mul $slices (len $names) | int -}}
{{- if lt $count $needed -}}
{{- $problems = append $problems (printf "passive.ports: %s has %d ports for %d pods with %d listeners each, so some would have none" $v.passive.ports $count $slices (len $names)) -}}
{{- end -}}
{{- range $port, $path := $taken -}}
{{- if and (ge (int $port) $first) (le (int $port) $last) -}}
{{- $problems = append $problems (printf "passive.ports: %s contains %s (%s)" $v.passive.ports $port $path) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $v.topology "hostNetwork") (gt (int $v.service.maxPorts) 0) -}}
{{- $carried := div $count $slices | int -}}
{{- if or (ne $v.topology "perPod") (eq $v.perPod.entry "own") -}}
{{- $carried = add $carried (len $names) | int -}}
{{- end -}}
{{- if gt $carried (int $v.service.maxPorts) -}}
{{- $problems = append $problems (printf "passive.ports: %s makes %d ports in one Service, more than the %d its load balancer carries (service.maxPorts)" $v.passive.ports $carried (int $v.service.maxPorts)) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $v.topology "hostNetwork") (eq $v.service.type "NodePort") (or (lt $first 30000) (gt $last 32767)) -}}
{{- $problems = append $problems (printf "passive.ports: %s with service.type NodePort, where clients reach the same port of a node; use a range within 30000-32767" $v.passive.ports) -}}
{{- end -}}
{{- end -}}

{{/* Public address. */}}
{{- if and (ne $v.topology "hostNetwork") (eq $v.service.type "NodePort") (not $v.publicAddress.from) -}}
{{- $problems = append $problems "publicAddress.from: missing with service.type NodePort; say how clients reach the nodes: values, names, hostIP or annotation" -}}
{{- end -}}
{{- if and (eq $v.topology "hostNetwork") (has $from (list "service" "annotation")) -}}
{{- $problems = append $problems (printf "publicAddress.from: %s with topology hostNetwork, which has no Service" $from) -}}
{{- else if and (eq $from "service") (ne $v.service.type "LoadBalancer") -}}
{{- $problems = append $problems (printf "publicAddress.from: service with service.type %s, whose status has no address" $v.service.type) -}}
{{- end -}}
{{- if and (eq $from "values") (ne (len $v.publicAddress.values) $pods) -}}
{{- $problems = append $problems (printf "publicAddress.values: has %d addresses for %d pods" (len $v.publicAddress.values) $pods) -}}
{{- end -}}
{{- if and (eq $from "names") (ne (len $v.publicAddress.names) $pods) -}}
{{- $problems = append $problems (printf "publicAddress.names: has %d names for %d pods" (len $v.publicAddress.names) $pods) -}}
{{- end -}}
{{- if and (eq $from "proxy") (not $v.proxyProtocol.enabled) -}}
{{- $problems = append $problems "publicAddress.from: proxy without proxyProtocol.enabled" -}}
{{- end -}}
{{- if and (eq $from "proxy") (include "causeway.splitAddresses" .) -}}
{{- $problems = append $problems "publicAddress.from: proxy with perPod.entry shared, whose header names the shared address and not the pod's; use service, values or names, or another perPod.entry" -}}
{{- end -}}
{{- if and (eq $from "connection") (ne $v.topology "hostNetwork") (ne $v.service.type "ClusterIP") -}}
{{- $problems = append $problems "publicAddress.from: connection is the pod's own address here, which clients outside the cluster cannot reach" -}}
{{- end -}}
{{- if and (include "causeway.readsService" .) (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $problems = append $problems (printf "serviceAccount: publicAddress.from %s needs a ServiceAccount that may read the Service; create one or name one" $from) -}}
{{- end -}}
{{- if include "causeway.splitAddresses" . -}}
{{- if and $v.service.ipFamilyPolicy (ne $v.service.ipFamilyPolicy "SingleStack") -}}
{{- $problems = append $problems (printf "service.ipFamilyPolicy: %s with perPod.entry shared; IPv6 clients use EPSV, whose reply cannot name the pod's address; use another perPod.entry" $v.service.ipFamilyPolicy) -}}
{{- end -}}
{{- range $name, $profile := (get $config "profiles" | default dict) -}}
{{- if hasKey $profile "epsv" -}}
{{- if has (toString (get $profile "epsv")) (list "on" "true") -}}
{{- $problems = append $problems (printf "config.profiles.%s.epsv: on with perPod.entry shared; the reply to EPSV cannot name the pod's address; use another perPod.entry" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Load balancer. */}}
{{- if and $v.proxyProtocol.enabled (not $v.proxyProtocol.trustedNetworks) -}}
{{- $problems = append $problems "proxyProtocol.trustedNetworks: missing; whoever may send headers may claim any address, so name the load balancer's networks" -}}
{{- end -}}
{{- if and $v.service.sourceRanges (or (eq $v.topology "hostNetwork") (ne $v.service.type "LoadBalancer")) -}}
{{- $problems = append $problems "service.sourceRanges: only load balancers filter; use networkPolicy.clients" -}}
{{- end -}}

{{/* Certificate, users, stores. */}}
{{- $ownCertificate := and (get $config "tls") (hasKey (get $config "tls") "certificate_file") -}}
{{- if and (not (include "causeway.tlsSecret" .)) (not $ownCertificate) -}}
{{- $problems = append $problems "tls: no certificate; set tls.existingSecret, tls.certManager.enabled, or config.tls with a file from extraVolumes" -}}
{{- end -}}
{{- if and (include "causeway.tlsSecret" .) $ownCertificate -}}
{{- $problems = append $problems "config.tls.certificate_file: given beside tls.existingSecret or tls.certManager; keep one" -}}
{{- end -}}
{{- if and $v.tls.existingSecret $v.tls.certManager.enabled -}}
{{- $problems = append $problems "tls: existingSecret and certManager.enabled exclude each other" -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled (or (not $v.tls.certManager.issuerRef.name) (not $v.tls.certManager.dnsNames)) -}}
{{- $problems = append $problems "tls.certManager: issuerRef.name and dnsNames are required" -}}
{{- end -}}
{{- if and $v.users.existingSecret $v.users.inline -}}
{{- $problems = append $problems "users: existingSecret and inline exclude each other" -}}
{{- end -}}
{{- if and (not (include "causeway.usersSecret" .)) (not (get $config "users")) (not (get $config "auth")) -}}
{{- $problems = append $problems "users: nobody could log in; set users.existingSecret, users.inline, config.users or config.auth" -}}
{{- end -}}
{{- range $key := list "listeners" "admin" -}}
{{- if hasKey $config $key -}}
{{- $problems = append $problems (printf "config.%s: the chart makes it; use the chart's own `%s`" $key $key) -}}
{{- end -}}
{{- end -}}
{{- $known := splitList " " (.Files.Get "files/config-keys.txt" | trim) -}}
{{- range $key, $_ := $config -}}
{{- if and (not (has $key $known)) (not (has $key (list "listeners" "admin"))) -}}
{{- $problems = append $problems (printf "config.%s: unknown key; known here: %s" $key (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- $backends := get $config "backends" | default dict -}}
{{- if not $backends -}}
{{- $problems = append $problems "config.backends: name at least one store" -}}
{{- end -}}
{{- $root := false -}}
{{- range $index, $mount := (get $config "mounts" | default list) -}}
{{- if eq (get $mount "path" | default "") "/" -}}
{{- $root = true -}}
{{- end -}}
{{- if and $backends (not (hasKey $backends (get $mount "backend" | default ""))) -}}
{{- $problems = append $problems (printf "config.mounts[%d].backend: %q is not in config.backends" $index (get $mount "backend" | default "")) -}}
{{- end -}}
{{- end -}}
{{- if not $root -}}
{{- $problems = append $problems "config.mounts: one mount must be `/`" -}}
{{- end -}}

{{/* Time and memory. */}}
{{- $drain := include "causeway.drainSeconds" . | int -}}
{{- $needed := add (int $v.preStopSeconds) $drain 35 | int -}}
{{- if lt (include "causeway.gracePeriod" . | int) $needed -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d is shorter than preStopSeconds (%d), config.timeouts.drain_seconds (%d) and 35 to clean up, so transfers would be killed; use at least %d" (int $v.terminationGracePeriodSeconds) (int $v.preStopSeconds) $drain $needed) -}}
{{- end -}}
{{- $memory := dig "limits" "memory" "" $v.resources | toString -}}
{{- $uploads := div (dig "limits" "upload_memory_bytes" 268435456 $config | int64) 1048576 | int -}}
{{- $mebibytes := 0 -}}
{{- if hasSuffix "Mi" $memory -}}
{{- $mebibytes = trimSuffix "Mi" $memory | int -}}
{{- else if hasSuffix "Gi" $memory -}}
{{- $mebibytes = mul 1024 (trimSuffix "Gi" $memory | int) | int -}}
{{- end -}}
{{- if and (gt $mebibytes 0) (lt $mebibytes (add $uploads 64 | int)) -}}
{{- $problems = append $problems (printf "resources.limits.memory: %s is less than the %d MiB that uploads may hold (config.limits.upload_memory_bytes) and 64 for the rest" $memory $uploads) -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
{{- $problems = append $problems "serviceMonitor.enabled and podMonitor.enabled: everything would be scraped twice; keep one" -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\ncauseway cannot work like this:\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}
