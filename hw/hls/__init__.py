"""The Python HLS: a kernel in, a pipelined component, a jitted function and a formula out."""
