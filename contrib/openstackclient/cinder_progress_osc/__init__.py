"""A plugin of python-openstackclient for the migration of volumes."""
