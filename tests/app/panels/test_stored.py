from tests.analysis.conftest import env, rollouts, tiny  # noqa: F401  # fixtures
