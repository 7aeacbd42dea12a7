"""dtx: declarative experiments for interpreting Decision Transformers on gridworlds."""

__version__ = "0.1.0"
