"""Schemas of the kinds that are not Kubernetes' own, as far as the manifests use them.

Strict, so that a misspelt field is refused. Field names and types are those of cert-manager.io/v1, keda.sh/v1alpha1 and
monitoring.coreos.com/v1.
"""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]

_DURATION = {"type": "string", "pattern": r"^([0-9]+(h|m|s|ms))+$"}
_NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}


def _table(required: str, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_TEXT = {"type": "string", "minLength": 1}

_CERTIFICATE = _table(
    "secretName issuerRef",
    secretName=_NAME,
    isCA={"type": "boolean"},
    commonName={"type": "string", "maxLength": 64},
    dnsNames=_list(_NAME),
    usages=_list(_one_of("digital signature", "key encipherment", "server auth", "client auth")),
    duration=_DURATION,
    renewBefore=_DURATION,
    privateKey=_table(
        "algorithm",
        algorithm=_one_of("RSA", "ECDSA", "Ed25519"),
        size=_COUNT,
        rotationPolicy=_one_of("Never", "Always"),
    ),
    issuerRef=_table("name", name=_NAME, kind=_one_of("Issuer", "ClusterIssuer"), group=_NAME),
)

_ISSUER = {
    "oneOf": [
        _table("selfSigned", selfSigned=_table("")),
        _table("ca", ca=_table("secretName", secretName=_NAME)),
    ]
}

_JETSTREAM_TRIGGER = _table(
    "type metadata",
    type=_one_of("nats-jetstream"),
    name=_NAME,
    # KEDA takes these as strings alone.
    metadata=_table(
        "natsServerMonitoringEndpoint account stream consumer lagThreshold",
        natsServerMonitoringEndpoint={"type": "string", "pattern": r"^[a-z0-9.-]+:[0-9]+$"},
        account=_TEXT,
        stream=_TEXT,
        consumer=_TEXT,
        lagThreshold={"type": "string", "pattern": "^[1-9][0-9]*$"},
        activationLagThreshold={"type": "string", "pattern": "^[0-9]+$"},
        useHttps=_one_of("true", "false"),
    ),
)
_CPU_TRIGGER = _table(
    "type metricType metadata",
    type=_one_of("cpu"),
    metricType=_one_of("Utilization", "AverageValue"),
    metadata=_table("value", value={"type": "string", "pattern": "^[0-9]+$"}),
)
_SCALED_OBJECT = _table(
    "scaleTargetRef triggers",
    scaleTargetRef=_table("name", name=_NAME),
    minReplicaCount=_COUNT,
    maxReplicaCount=_COUNT,
    pollingInterval=_COUNT,
    cooldownPeriod=_COUNT,
    advanced=_table(
        "",
        horizontalPodAutoscalerConfig=_table(
            "", behavior=_table("", scaleDown=_table("", stabilizationWindowSeconds=_COUNT))
        ),
    ),
    triggers=_list({"oneOf": [_JETSTREAM_TRIGGER, _CPU_TRIGGER]}),
)

_LABEL_NAME = {"type": "string", "pattern": r"^[a-zA-Z_][a-zA-Z0-9_]*$"}

_SERVICE_MONITOR = _table(
    "selector endpoints",
    selector=_table("", matchLabels=_LABELS),
    endpoints=_list(
        _table(
            "port",
            port=_TEXT,
            path=_TEXT,
            interval=_DURATION,
            scrapeTimeout=_DURATION,
            honorLabels={"type": "boolean"},
            relabelings=_list(
                _table("", sourceLabels=_list(_LABEL_NAME), targetLabel=_LABEL_NAME, replacement={"type": "string"})
            ),
        )
    ),
)

_RULE = _table("expr", alert=_TEXT, record=_TEXT, expr=_TEXT, labels=_LABELS, annotations=_LABELS)
_RULE["properties"]["for"] = _DURATION
_RULE["properties"]["keep_firing_for"] = _DURATION
_PROMETHEUS_RULE = _table(
    "groups", groups=_list(_table("name rules", name=_TEXT, interval=_DURATION, rules=_list(_RULE)))
)

_SPECS = {
    ("cert-manager.io/v1", "Certificate"): _CERTIFICATE,
    ("cert-manager.io/v1", "Issuer"): _ISSUER,
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _PROMETHEUS_RULE,
}


def is_custom(each: Any) -> bool:
    """Whether an object's kind is one of these."""
    return (each["apiVersion"], each["kind"]) in _SPECS


def validate(each: Any) -> None:
    """Check an object of one of these kinds.

    Raises:
        jsonschema.ValidationError: a field is misspelt, is missing, or is not what it has to be.
    """
    metadata = _table("name", name=_NAME, namespace=_NAME, labels=_LABELS, annotations=_LABELS)
    schema = _table(
        "apiVersion kind metadata spec",
        apiVersion={},
        kind={},
        metadata=metadata,
        spec=_SPECS[each["apiVersion"], each["kind"]],
    )
    jsonschema.validate(each, schema)
