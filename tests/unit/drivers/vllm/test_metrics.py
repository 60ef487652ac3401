"""vLLM's page of metrics, of both its engines, and pages that are none."""

from penstock.drivers.vllm.metrics import read

PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{model_name="m"} 1.0
vllm:kv_cache_usage_perc{model_name="m"} 0.1234
vllm:generation_tokens_total{model_name="m"} 1.5e+06
vllm:time_to_first_token_seconds_bucket{le="0.001",model_name="m"} 9.0
python_info 1.0
"""


def test_meters_are_read_and_engines_summed() -> None:
    assert read(PAGE) == {
        "requests_running": 5,
        "requests_waiting": 1,
        "cache_permille": 123,
        "generation_tokens": 1_500_000,
    }


def test_the_older_names_are_read_too() -> None:
    assert read('vllm:gpu_cache_usage_perc{model_name="m"} 1.0') == {"cache_permille": 1_000}


def test_nonsense_is_left_out() -> None:
    assert read("vllm:num_requests_running\nvllm:num_requests_waiting{a} NaN\nvllm:x{} y\n\0") == {}
