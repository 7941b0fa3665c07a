"""The metrics of the table, by the labels that they score."""

from harness.metric_table import METRICS

SCORE_METRICS = [name for name, metric in METRICS.items() if metric.of_scores]
CLASS_METRICS = [name for name in METRICS if name not in SCORE_METRICS]
MULTICLASS_METRICS = [name for name, metric in METRICS.items() if metric.labels == "classes"]
