"""The section [cinder_progress] of cinder.conf."""

from oslo_config import cfg

SECTION = 'cinder_progress'

OPTIONS = [
    cfg.StrOpt('ask',
               default='direct',
               choices=['direct', 'cinder-volume'],
               help="Which topic the question goes to: the daemon's own "
                    "(direct), or the one of cinder-volume, where a daemon "
                    "in mode sidecar or standalone takes it (cinder-volume)."),
    cfg.IntOpt('timeout',
               default=2,
               min=1,
               help='How many seconds to wait for an answer. After that the '
                    'progress is NA.'),
]


def read(conf):
    """The section's values; raises what oslo.config raises of a wrong one."""
    conf.register_opts(OPTIONS, group=SECTION)
    section = conf[SECTION]
    return section.ask, section.timeout
