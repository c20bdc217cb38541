"""Who may ask."""

from cinder import policy as cinder_policy
from oslo_policy import policy as oslo_policy

# The rule of those cinder releases that came with the action.
RULE = 'volume_extension:volume_admin_actions:migrate_volume_progress'

# Who may migrate a volume may see how far the migration is.
DEFAULT = 'volume_extension:volume_admin_actions:migrate_volume'


def authorize(context, volume):
    """Raises PolicyNotAuthorized (HTTP 403) unless the rule permits it."""
    if hasattr(context, 'authorize'):
        _register()
        context.authorize(RULE, target_obj=volume)
        return
    # Before Queens all rules stand in policy.json. One that does not is
    # replaced by "default" there, which lets the volume's owner pass.
    cinder_policy.enforce(context, DEFAULT, {
        'project_id': context.project_id, 'user_id': context.user_id})


def _register():
    # At each question, as cinder may have made a new enforcer since.
    cinder_policy.init()
    enforcer = cinder_policy._ENFORCER
    if RULE in enforcer.registered_rules:
        return
    try:
        enforcer.register_default(oslo_policy.RuleDefault(
            RULE, 'rule:' + DEFAULT,
            description="Show how far a volume's migration is."))
    except oslo_policy.DuplicatePolicyError:
        # Another thread was faster.
        pass
