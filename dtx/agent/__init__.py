"""Agents that learn a task from reward and then demonstrate it."""
