"""What the chart refuses, word by word: changes to a good set of values, and every line of the answer."""

from cases import BASE, STORE
from release import merged


def _with(**changes):
    return merged(BASE, changes)


def _without(*keys):
    return {key: value for key, value in BASE.items() if key not in keys}


def _config(**changes):
    return _with(config=merged(STORE, changes))


PER_POD = {"topology": "perPod", "replicas": 2}
SHARED = {**PER_POD, "perPod": {"entry": "shared"}}

# name -> (values, expected lines)
REFUSALS = {
    "nothing is set": (
        {},
        [
            "tls: no certificate; set tls.existingSecret, tls.certManager.enabled, or config.tls with a file from extraVolumes",
            "users: nobody could log in; set users.existingSecret, users.inline, config.users or config.auth",
            "config.backends: name at least one store",
            "config.mounts: one mount must be `/`",
        ],
    ),
    "replicas in single": (
        _with(replicas=3),
        ["replicas: 3 with topology single, where a data connection could reach another pod than its session; use topology perPod"],
    ),
    "replicas in hostNetwork": (
        _with(topology="hostNetwork", replicas=2),
        ["replicas: 2 with topology hostNetwork, which runs one pod per node; choose nodes with nodeSelector"],
    ),
    "autoscaling in single": (
        _with(autoscaling={"enabled": True}),
        ["autoscaling.enabled: only topology perPod can have more or fewer pods"],
    ),
    "autoscaling by nothing": (
        _with(**PER_POD, autoscaling={"enabled": True, "cpuPercent": 0, "minReplicas": 9}),
        [
            "autoscaling.minReplicas: larger than autoscaling.maxReplicas",
            "autoscaling: neither cpuPercent nor transfersPerPod is set, so nothing would scale",
        ],
    ),
    "policy in hostNetwork": (
        _with(topology="hostNetwork", networkPolicy={"enabled": True}),
        ["networkPolicy.enabled: policies do not apply to pods in the network of their node; use the firewall of the nodes"],
    ),
    "annotations per pod in single": (
        _with(perPod={"serviceAnnotations": [{"a": "b"}]}),
        ["perPod.serviceAnnotations: only for topology perPod; use service.annotations"],
    ),
    "more annotations than pods": (
        _with(**PER_POD, perPod={"serviceAnnotations": [{}, {}, {}]}),
        ["perPod.serviceAnnotations: has 3 entries for 2 pods"],
    ),
    "slices in single": (
        _with(perPod={"slices": 3}),
        ["perPod.slices: 3 with topology single, where all ports belong to one pod"],
    ),
    "fewer slices than pods": (
        _with(**PER_POD, perPod={"slices": 1}),
        ["perPod.slices: 1 slices for 2 pods"],
    ),
    "more slices than ports": (
        _with(**PER_POD, perPod={"slices": 21}),
        ["passive.ports: 50000-50039 has 40 ports for 21 pods with 2 listeners each, so some would have none"],
    ),
    "one address without an address": (
        _with(**PER_POD, perPod={"entry": "oneAddress"}, service={"type": "ClusterIP"}),
        [
            "perPod.address: missing with perPod.entry oneAddress; reserve an IPv4 address for all Services",
            "perPod.entry: oneAddress with service.type ClusterIP; only load balancers can give several Services one address",
        ],
    ),
    "an address for nobody": (
        _with(**PER_POD, perPod={"address": "203.0.113.5"}),
        ["perPod.address: only for topology perPod with entry oneAddress"],
    ),
    "no listener": (
        _with(listeners={"explicit": {"enabled": False}, "implicit": {"enabled": False}}),
        ["listeners: enable explicit, implicit or both"],
    ),
    "one port twice": (
        _with(listeners={"explicit": {"containerPort": 9090}, "implicit": {"port": 21}}),
        [
            "listeners.explicit.containerPort: 9090 is admin.port already",
            "listeners.implicit.port: 21 is the port of the other listener already",
        ],
    ),
    "low port": (
        _with(listeners={"explicit": {"containerPort": 21}}),
        ["listeners.explicit.containerPort: 21 needs a capability that the pod does not have; leave it above 1023, clients see `port`"],
    ),
    "low port of a node": (
        _with(topology="hostNetwork", listeners={"explicit": {"containerPort": 21}}),
        [
            "listeners.explicit.containerPort: 21 needs a capability that the pod does not have; set `sysctl "
            "net.ipv4.ip_unprivileged_port_start` on the nodes and say hostNetwork.nodesAllowLowPorts: true, or use a port above 1023"
        ],
    ),
    "keys that the chart makes": (
        _with(
            listeners={"explicit": {"options": {"address": "0.0.0.0:1", "passive": {"ports": "1-2", "address": "1.2.3.4"}}}},
            config=merged(STORE, {"admin": {"address": "0.0.0.0:1"}, "listeners": []}),
        ),
        [
            "listeners.explicit.options.address: the chart sets it",
            "listeners.explicit.options.passive.ports: the chart computes it; set passive.ports",
            "listeners.explicit.options.passive.address: the chart computes it; set publicAddress",
            "config.listeners: the chart makes it; use the chart's own `listeners`",
            "config.admin: the chart makes it; use the chart's own `admin`",
        ],
    ),
    "plain listener exposed": (
        _with(listeners={"explicit": {"options": {"clear_text": "allow"}}}),
        ["listeners.explicit.options.clear_text: allow would expose passwords and files in the clear; say allowClearText: true if that is meant"],
    ),
    "client's address hidden": (
        _with(service={"externalTrafficPolicy": "Cluster"}, listeners={"implicit": {"enabled": False}}),
        [
            "service.externalTrafficPolicy: Cluster hides the client's address, so listener explicit would refuse data connections "
            "as somebody else's; use Local, PROXY protocol, or listeners.explicit.options.passive.data_peer: any"
        ],
    ),
    "no range": (_with(passive={"ports": "50100-50000"}), ["passive.ports: 50100-50000 is no range between 1024 and 65535"]),
    "range too small": (
        _with(**PER_POD, passive={"ports": "50000-50002"}),
        ["passive.ports: 50000-50002 has 3 ports for 2 pods with 2 listeners each, so some would have none"],
    ),
    "range with another port": (
        _with(passive={"ports": "2000-3000"}),
        [
            "passive.ports: 2000-3000 contains 2121 (listeners.explicit.containerPort)",
            "passive.ports: 2000-3000 contains 2990 (listeners.implicit.containerPort)",
        ],
    ),
    "range wider than exposed": (
        _with(service={"maxPorts": 50}, passive={"ports": "50000-50099"}),
        ["passive.ports: 50000-50099 makes 102 ports in one Service, more than the 50 its load balancer carries (service.maxPorts)"],
    ),
    "node ports": (
        _with(service={"type": "NodePort"}),
        [
            "passive.ports: 50000-50039 with service.type NodePort, where clients reach the same port of a node; use a range within 30000-32767",
            "publicAddress.from: missing with service.type NodePort; say how clients reach the nodes: values, names, hostIP or annotation",
        ],
    ),
    "address of a Service that is not there": (
        _with(topology="hostNetwork", publicAddress={"from": "service"}),
        ["publicAddress.from: service with topology hostNetwork, which has no Service"],
    ),
    "address of a Service without one": (
        _with(service={"type": "ClusterIP"}, publicAddress={"from": "service"}),
        ["publicAddress.from: service with service.type ClusterIP, whose status has no address"],
    ),
    "too few addresses": (
        _with(**PER_POD, publicAddress={"from": "values", "values": ["203.0.113.1"]}),
        ["publicAddress.values: has 1 addresses for 2 pods"],
    ),
    "too many names": (
        _with(publicAddress={"from": "names", "names": ["a.example.com", "b.example.com"]}),
        ["publicAddress.names: has 2 names for 1 pods"],
    ),
    "PROXY address without PROXY protocol": (
        _with(publicAddress={"from": "proxy"}),
        ["publicAddress.from: proxy without proxyProtocol.enabled"],
    ),
    "PROXY address of another Service": (
        _with(**SHARED, publicAddress={"from": "proxy"}, proxyProtocol={"enabled": True, "trustedNetworks": ["10.0.0.0/8"]}),
        [
            "publicAddress.from: proxy with perPod.entry shared, whose header names the shared address and not the pod's; "
            "use service, values or names, or another perPod.entry"
        ],
    ),
    "address of the pod": (
        _with(publicAddress={"from": "connection"}),
        ["publicAddress.from: connection is the pod's own address here, which clients outside the cluster cannot reach"],
    ),
    "nobody may read the Service": (
        _with(serviceAccount={"create": False}),
        ["serviceAccount: publicAddress.from service needs a ServiceAccount that may read the Service; create one or name one"],
    ),
    "EPSV to another address": (
        _with(**SHARED, service={"ipFamilyPolicy": "PreferDualStack"}, config=merged(STORE, {"profiles": {"p": {"epsv": "on"}}})),
        [
            "service.ipFamilyPolicy: PreferDualStack with perPod.entry shared; IPv6 clients use EPSV, whose reply cannot name "
            "the pod's address; use another perPod.entry",
            "config.profiles.p.epsv: on with perPod.entry shared; the reply to EPSV cannot name the pod's address; use another perPod.entry",
        ],
    ),
    "PROXY protocol from anybody": (
        _with(proxyProtocol={"enabled": True}),
        ["proxyProtocol.trustedNetworks: missing; whoever may send headers may claim any address, so name the load balancer's networks"],
    ),
    "nobody filters": (
        _with(service={"type": "ClusterIP", "sourceRanges": ["10.0.0.0/8"]}),
        ["service.sourceRanges: only load balancers filter; use networkPolicy.clients"],
    ),
    "no certificate": (
        _without("tls"),
        ["tls: no certificate; set tls.existingSecret, tls.certManager.enabled, or config.tls with a file from extraVolumes"],
    ),
    "two certificates": (
        _with(
            tls={"certManager": {"enabled": True}},
            config=merged(STORE, {"tls": {"certificate_file": "/a", "key_file": "/b"}}),
        ),
        [
            "config.tls.certificate_file: given beside tls.existingSecret or tls.certManager; keep one",
            "tls: existingSecret and certManager.enabled exclude each other",
            "tls.certManager: issuerRef.name and dnsNames are required",
        ],
    ),
    "two lists of users": (
        _with(users={"inline": [{"name": "a"}]}),
        ["users: existingSecret and inline exclude each other"],
    ),
    "unknown key": (
        _config(limit={"connections": 5}),
        ["config.limit: unknown key; known here: {known}"],
    ),
    "unknown backend": (
        _with(config={**STORE, "mounts": [{"path": "/", "backend": "bukket"}]}),
        ['config.mounts[0].backend: "bukket" is not in config.backends'],
    ),
    "grace shorter than drain": (
        _with(terminationGracePeriodSeconds=60),
        [
            "terminationGracePeriodSeconds: 60 is shorter than preStopSeconds (15), config.timeouts.drain_seconds (300) and 35 "
            "to clean up, so transfers would be killed; use at least 350"
        ],
    ),
    "memory for uploads": (
        _with(resources={"limits": {"memory": "256Mi"}}),
        ["resources.limits.memory: 256Mi is less than the 256 MiB that uploads may hold (config.limits.upload_memory_bytes) and 64 for the rest"],
    ),
    "scraped twice": (
        _with(serviceMonitor={"enabled": True}, podMonitor={"enabled": True}),
        ["serviceMonitor.enabled and podMonitor.enabled: everything would be scraped twice; keep one"],
    ),
    "EKS without networks": (
        None,
        ["proxyProtocol.trustedNetworks: missing; whoever may send headers may claim any address, so name the load balancer's networks"],
    ),
}

# What the schema refuses: values, and a part of what it says.
SCHEMA_REFUSALS = {
    "unknown value": (_with(replica=2), "additional properties 'replica' not allowed"),
    "unknown value in a table": (_with(service={"typ": "NodePort"}), "additional properties 'typ' not allowed"),
    "unknown topology": (_with(topology="cluster"), "value must be one of 'single', 'perPod', 'hostNetwork'"),
    "wrong type": (_with(replicas="two"), "got string, want integer"),
    "password in clear": (_with(users={"existingSecret": "", "inline": [{"name": "a", "password": "x"}]}), "'not' failed"),
}
