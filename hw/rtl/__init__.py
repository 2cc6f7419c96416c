"""The card in Amaranth, a file or folder a stage; only ``card.py`` joins them."""
