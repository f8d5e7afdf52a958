"""Sets of values that must install: every topology, every preset, every option at least once."""

from release import merged, preset

STORE = {
    "backends": {"bucket": {"type": "s3", "bucket": "telemetry", "region": "eu-central-1", "part_size_bytes": 16777216}},
    "mounts": [{"path": "/", "backend": "bucket", "prefix": "{home}"}],
}
# What every installation must say, with few ports so that golden files can be read.
BASE = {
    "config": STORE,
    "tls": {"existingSecret": "ftp-tls"},
    "users": {"existingSecret": "ftp-users"},
    "admin": {"existingSecret": "ftp-admin"},
    "image": {"repository": "registry.example.com/causeway"},
    "passive": {"ports": "50000-50039"},
}
EVERYTHING = {
    "topology": "perPod",
    "replicas": 2,
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"repository": "registry.example.com/causeway", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "config": {
        **STORE,
        "tls": {"minimum_version": "1.3"},
        "limits": {"upload_memory_bytes": 134217728, "connections": 2000},
        "timeouts": {"drain_seconds": 120, "drain_delay_seconds": 5},
        "profiles": {"legacy": {"list_date": "year_only"}},
        "log": {"level": "debug"},
    },
    "listeners": {
        "explicit": {"options": {"clear_text": "allow", "passive": {"data_peer": "same-subnet", "ports_per_user": 3}}},
        "implicit": {"options": {"profile": "legacy", "resumption": "enforced"}},
    },
    "allowClearText": True,
    "bindAddress": "[::]",
    "publicAddress": {"from": "values", "values": ["203.0.113.10", "203.0.113.11", "203.0.113.12"]},
    "service": {
        "labels": {"team": "files"},
        "annotations": {"external-dns.alpha.kubernetes.io/hostname": "ftp.example.com"},
        "sourceRanges": ["198.51.100.0/24"],
        "loadBalancerClass": "example.com/balancer",
        "sessionAffinity": "ClientIP",
        "ipFamilyPolicy": "SingleStack",
        "externalTrafficPolicy": "Cluster",
        "maxPorts": 20,
    },
    "perPod": {"entry": "shared", "serviceAnnotations": [{"example.com/address": "203.0.113.10"}], "podManagementPolicy": "OrderedReady"},
    "proxyProtocol": {"enabled": True, "trustedNetworks": ["10.0.0.0/8"]},
    "tls": {
        "certManager": {
            "enabled": True,
            "issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"},
            "dnsNames": ["ftp.example.com"],
            "duration": "2160h",
            "renewBefore": "360h",
        }
    },
    "users": {"inline": [{"name": "device", "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"}]},
    "admin": {"existingSecret": "ftp-admin"},
    "backendCredentials": {"existingSecret": "bucket-keys"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/causeway"}},
    "podLabels": {"azure.workload.identity/use": "true"},
    "podAnnotations": {"example.com/note": "yes"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "ftp", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/etc/extra/ca.pem"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "extra", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/etc/extra", "readOnly": True}],
    "extraContainers": [{"name": "sidecar", "image": "registry.example.com/sidecar:1"}],
    "initContainers": [{"name": "before", "image": "registry.example.com/before:1"}],
    "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 3, "transfersPerPod": 50},
    "networkPolicy": {
        "enabled": True,
        "clients": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True},
    "passive": {"ports": "50000-50023"},
}

CASES = {
    "single": BASE,
    "single-nodeport": merged(
        BASE,
        {
            "service": {"type": "NodePort"},
            "listeners": {"explicit": {"nodePort": 30021}, "implicit": {"nodePort": 30990}},
            "passive": {"ports": "30100-30119"},
            "publicAddress": {"from": "names", "names": ["nodes.example.com"]},
        },
    ),
    "single-clusterip": merged(
        BASE, {"service": {"type": "ClusterIP"}, "listeners": {"implicit": {"enabled": False}}}
    ),
    "single-proxy": merged(
        BASE,
        {
            "publicAddress": {"from": "proxy"},
            "proxyProtocol": {"enabled": True, "trustedNetworks": ["10.0.0.0/8"]},
            "podMonitor": {"enabled": True},
        },
    ),
    "perpod": merged(BASE, {"topology": "perPod", "replicas": 3}),
    "perpod-slices": merged(BASE, {"topology": "perPod", "replicas": 2, "perPod": {"slices": 4}}),
    "perpod-one-address": merged(
        BASE, {"topology": "perPod", "replicas": 2, "perPod": {"entry": "oneAddress", "address": "203.0.113.5"}}
    ),
    "perpod-annotation": merged(
        BASE,
        {
            "topology": "perPod",
            "replicas": 2,
            "publicAddress": {"from": "annotation"},
            "terminationGracePeriodSeconds": 600,
        },
    ),
    "hostnetwork": merged(
        BASE,
        {
            "topology": "hostNetwork",
            "publicAddress": {"from": "hostIP"},
            "nodeSelector": {"ftp": "yes"},
            "listeners": {"explicit": {"containerPort": 21}},
            "hostNetwork": {"nodesAllowLowPorts": True},
        },
    ),
    "everything": EVERYTHING,
}
# Presets are shown with their own ports; the golden file writes a run of them as one line.
_PRESET_BASE = {key: value for key, value in BASE.items() if key != "passive"}
for name, more in {
    "eks-nlb": {"proxyProtocol": {"trustedNetworks": ["10.0.0.0/16"]}},
    "gke": {},
    "aks": {},
    "metallb": {},
}.items():
    CASES[f"preset-{name}"] = merged(preset(name), _PRESET_BASE, more)
