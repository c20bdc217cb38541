"""API extensions of cinder that tell how far a volume's migration is.

cinder-api loads them by their names in cinder.conf::

    [DEFAULT]
    osapi_volume_extension = cinder.api.contrib.standard_extensions
    osapi_volume_extension = cinder_progress_api.MigrateVolumeProgress
    osapi_volume_extension = cinder_progress_api.MigrationProgressInDetails

Works with every cinder-api from Ocata (10.0, Python 2.7) on.
"""

from cinder_progress_api.extension import MigrateVolumeProgress
from cinder_progress_api.extension import MigrationProgressInDetails

__all__ = ('MigrateVolumeProgress', 'MigrationProgressInDetails')
