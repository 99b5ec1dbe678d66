"""Constants that the implementations of attention share."""

MASKED = -1e30  # finite, so that a fully masked block gives exp(MASKED - max) = 0 and never NaN
ATTENTION_OUTPUT, LAYER_INPUT = "attention_output", "layer_input"  # names for rematerialisation policies
