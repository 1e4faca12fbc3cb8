"""Networks in ONNX graphs: recognised by their structure, whoever wrote them."""
