"""Methods of the operator."""
