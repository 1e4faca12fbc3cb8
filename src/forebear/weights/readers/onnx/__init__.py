"""Reader of ONNX graphs, without the onnx package."""
