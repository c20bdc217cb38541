"""Makes the tables of Ocata's cinder. Usage: ocata_tables.py CINDER_CONF."""

import sys

from cinder.db.sqlalchemy import api
from cinder.db.sqlalchemy import models
from oslo_config import cfg

cfg.CONF(['--config-file', sys.argv[1]], project='cinder')
models.BASE.metadata.create_all(api.get_engine())
