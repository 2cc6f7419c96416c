"""Benches: how a component is built with Verilator and run under cocotb."""
