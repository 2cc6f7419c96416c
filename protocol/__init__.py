"""What two parties agree on, declared once: wires, rings, registers, states, reasons."""
