"""MLflow as the store uses it: a database in the home, or a laboratory's server. Nothing else imports MLflow."""
