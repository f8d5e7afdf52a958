"""Schemas of the custom resources that the chart makes, as far as it uses them.

Written down from the published CRDs, closed, so that a key the operators do not know is found:
cert-manager 1.x `deploy/crds/cert-manager.io_certificates.yaml`; prometheus-operator 0.8x
`example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,prometheusrules}.yaml`.
"""

STRING = {"type": "string"}
STRINGS = {"type": "array", "items": STRING}
STRING_MAP = {"type": "object", "additionalProperties": STRING}
# Of prometheus-operator's `Duration`.
PROMETHEUS_DURATION = {
    "type": "string",
    "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
GO_DURATION = {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(h|m|s|ms))+$"}


def closed(required=(), **properties):
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def resource(spec):
    metadata = {"type": "object", "required": ["name"]}
    return closed(["apiVersion", "kind", "metadata", "spec"], apiVersion=STRING, kind=STRING, metadata=metadata, spec=spec)


SELECTOR = closed(matchLabels=STRING_MAP, matchExpressions={"type": "array"})
SECRET_KEY = closed(["key"], name=STRING, key=STRING, optional={"type": "boolean"})
AUTHORIZATION = closed(type=STRING, credentials=SECRET_KEY)
SCRAPE = {
    "port": STRING,
    "path": STRING,
    "scheme": {"enum": ["http", "https", "HTTP", "HTTPS"]},
    "interval": PROMETHEUS_DURATION,
    "scrapeTimeout": PROMETHEUS_DURATION,
    "authorization": AUTHORIZATION,
}
RULE = closed(
    ["expr"],
    alert=STRING,
    record=STRING,
    expr={"type": ["string", "integer"]},
    **{"for": PROMETHEUS_DURATION},
    keep_firing_for=PROMETHEUS_DURATION,
    labels=STRING_MAP,
    annotations=STRING_MAP,
)
GROUP = closed(
    ["name"],
    name={"type": "string", "minLength": 1},
    interval=PROMETHEUS_DURATION,
    rules={"type": "array", "items": RULE},
)

SCHEMAS = {
    ("cert-manager.io/v1", "Certificate"): resource(
        closed(
            ["secretName", "issuerRef"],
            secretName=STRING,
            issuerRef=closed(["name"], name=STRING, kind=STRING, group=STRING),
            dnsNames=STRINGS,
            duration=GO_DURATION,
            renewBefore=GO_DURATION,
            privateKey=closed(
                algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
                encoding={"enum": ["PKCS1", "PKCS8"]},
                rotationPolicy={"enum": ["Never", "Always"]},
                size={"type": "integer"},
            ),
            usages={
                "type": "array",
                "items": {
                    "enum": ["signing", "digital signature", "key encipherment", "server auth", "client auth"],
                },
            },
        )
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): resource(
        closed(
            ["endpoints", "selector"],
            selector=SELECTOR,
            endpoints={"type": "array", "minItems": 1, "items": closed(**SCRAPE)},
            jobLabel=STRING,
        )
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): resource(
        closed(
            ["selector"],
            selector=SELECTOR,
            podMetricsEndpoints={"type": "array", "minItems": 1, "items": closed(**SCRAPE)},
            jobLabel=STRING,
        )
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): resource(
        closed(groups={"type": "array", "minItems": 1, "items": GROUP})
    ),
}
