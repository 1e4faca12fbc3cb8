from __future__ import annotations

from forebear.tasks.serve.metrics import Metrics


def test_the_text_is_prometheus() -> None:
    metrics = Metrics(lambda: 3)
    metrics.request("/predict", 200, 0.02)
    metrics.request("/predict", 200, 7.0)
    metrics.request("/predict", 400, 100.0)
    metrics.batch(2)
    metrics.batch(3)
    lines = metrics.text().splitlines()
    assert 'forebear_requests_total{path="/predict",code="200"} 2' in lines
    assert 'forebear_requests_total{path="/predict",code="400"} 1' in lines
    assert 'forebear_request_seconds_bucket{le="0.01"} 0' in lines
    assert 'forebear_request_seconds_bucket{le="0.025"} 1' in lines
    assert 'forebear_request_seconds_bucket{le="10.0"} 2' in lines
    assert 'forebear_request_seconds_bucket{le="+Inf"} 3' in lines
    assert "forebear_request_seconds_count 3" in lines
    assert "forebear_request_seconds_sum 107.02" in lines
    assert 'forebear_batch_images_bucket{le="2.0"} 1' in lines
    assert "forebear_batch_images_sum 5.0" in lines
    assert "forebear_queue_images 3" in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == 4
