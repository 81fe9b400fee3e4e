"""The five agents. `AGENTS` maps the names that `--agent_name` takes to their classes."""

from brac.agents.bc_agent import Agent as BC
from brac.agents.bcq_agent import Agent as BCQ
from brac.agents.brac_dual_agent import Agent as BRACDual
from brac.agents.brac_primal_agent import Agent as BRACPrimal
from brac.agents.sac_agent import Agent as SAC

AGENTS = {'sac': SAC, 'bc': BC, 'bcq': BCQ, 'brac_primal': BRACPrimal, 'brac_dual': BRACDual}
