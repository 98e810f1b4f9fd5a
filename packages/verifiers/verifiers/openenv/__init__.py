"""OpenEnv servers: a session's wire in two dialects, the pool of sessions, where servers come from, the check.

Nothing in here knows of models or messages; `verifiers.envs.integrations.openenv_env` puts chat on top of it.
"""
