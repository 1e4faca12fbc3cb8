"""How a table becomes modules: plan, layers, units, and the network itself."""
