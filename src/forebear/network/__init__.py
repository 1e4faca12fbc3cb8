"""From a table to a network: the plan, the layers, the residual units and the network itself."""
