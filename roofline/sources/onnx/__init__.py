"""An ONNX graph as a source: read, sized, folded, and its operators as a trace."""
