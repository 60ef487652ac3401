"""Public traces for regression tests and benches; they lie beside the repository and may be absent."""

from pathlib import Path

TRACES = Path(__file__).parents[3] / "shared" / "traces"
PHILLY = TRACES / "philly" / "philly_jobs_2017-09-04_2017-10-31.csv.gz"
