"""The paper's and the project's evidence: commands, not tests."""
