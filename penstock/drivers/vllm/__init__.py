"""LLM replicas on vLLM: one `vllm serve` per replica, on the devices that placement granted it.

vLLM is installed by the operator of a node, in an environment of its own; ``PENSTOCK_VLLM`` names its program
where that is not on the path. "Already gone" means: no process holds the lock of the allocation, and its
folder does not exist. Never run on a real accelerator by this project: what is tested is the protocol, against
a stand-in that is called simulated.
"""
