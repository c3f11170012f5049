"""Every example of the API reference, running as written but for its import lines.

What the reference leaves to the reader, the functions that measure, is made up at the top.

    python examples/api_reference.py     (uses NATS_URL, else a NATS of its own on a free port)
"""

import asyncio
import contextlib

from registry import AgentCapability, AgentRegistry, AgentStatus, CommunicationBus, ServiceQuery


def calculate_health_score() -> float:
    return 0.93


def get_current_load() -> float:
    return 0.25


def measure_response_time() -> float:
    return 0.12


def get_memory_usage() -> float:
    return 0.4


def get_cpu_usage() -> float:
    return 0.3


requests_count, avg_response_time, success_rate, uptime_percentage = 1200, 0.12, 0.99, 99.9


# fmt: off
async def main() -> None:
    print("== Basic Agent Registration")

    # Initialize components
    bus = CommunicationBus()
    registry = AgentRegistry(bus)

    await bus.start()
    await registry.start()

    # Register a trading agent
    agent_config = {
        'agent_type': 'trading_agent',
        'capabilities': ['trading', 'execution'],
        'metadata': {
            'exchange': 'hyperliquid',
            'strategy_type': 'arbitrage',
            'risk_level': 'medium'
        },
        'tags': ['crypto', 'perpetuals']
    }

    agent_id = await registry.register_agent(agent_config)
    print(f"Registered agent: {agent_id}")
    registered = [agent_id]

    print("== Agent Registration")

    agent_info = {
        'agent_type': 'trading_agent',
        'capabilities': ['trading', 'risk_management'],
        'metadata': {'exchange': 'hyperliquid', 'strategy': 'momentum'},
        'version': '2.1.0',
        'tags': ['high_frequency', 'crypto']
    }

    agent_id = await registry.register_agent(agent_info)
    registered.append(agent_id)

    momentum = registry.get_agent_info(agent_id)
    assert momentum is not None
    assert momentum.status is AgentStatus.ACTIVE
    print(f"{agent_id} is {momentum.status.value}, version {momentum.version}")

    print("== Service Discovery")

    query = ServiceQuery(
        capabilities={AgentCapability.TRADING, AgentCapability.RISK_MANAGEMENT},
        agent_type="trading_agent",
        min_health_score=0.8,
        max_load_factor=0.7,
        limit=5,
        sort_by="performance"
    )

    agents = await registry.discover_agents(query)
    for agent in agents:
        print(f"Found agent: {agent.agent_id} ({agent.agent_type})")
    assert [agent.agent_id for agent in agents] == [agent_id]

    print("== Health Monitoring")

    await registry.register_agent({**agent_config, 'agent_id': 'trading_agent_001'})

    await registry.update_agent_health("trading_agent_001", {
        'health_score': 0.95,
        'load_factor': 0.3,
        'response_time': 0.15,
        'active_connections': 5,
        'memory_usage': 0.6
    })

    # Find healthy trading agents with low load
    query = ServiceQuery(
        capabilities={AgentCapability.TRADING},
        min_health_score=0.9,
        max_load_factor=0.5,
        sort_by="performance",
        limit=3
    )

    available_agents = await registry.discover_agents(query)

    for agent in available_agents:
        print(f"Available: {agent.agent_id}")
        print(f"  Health: {agent.health_score}")
        print(f"  Load: {agent.load_factor}")
        print(f"  Capabilities: {list(agent.capabilities)}")
    assert len(available_agents) == 3

    print("== Health Monitoring Integration")

    my_agent_id = agent_id

    # Update agent health periodically
    async def health_check_loop():
        while True:
            health_data = {
                'health_score': calculate_health_score(),
                'load_factor': get_current_load(),
                'response_time': measure_response_time(),
                'memory_usage': get_memory_usage(),
                'cpu_usage': get_cpu_usage()
            }

            await registry.update_agent_health(my_agent_id, health_data)
            await asyncio.sleep(30)  # Check every 30 seconds

    checking = asyncio.create_task(health_check_loop())
    async with asyncio.timeout(10):
        while registry.get_agent_info(my_agent_id).health_score != calculate_health_score():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    checking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await checking
    print(f"{my_agent_id} reports a health of {registry.get_agent_info(my_agent_id).health_score}")

    print("== Performance Tracking")

    # Track performance metrics
    performance_metrics = {
        'requests_served': requests_count,
        'avg_response_time': avg_response_time,
        'success_rate': success_rate,
        'uptime': uptime_percentage
    }

    await registry.update_agent_performance(agent_id, performance_metrics)

    served = registry.get_agent_info(agent_id).performance_metrics['requests_served']
    print(f"{agent_id} has served {served:.0f} requests")

    print("== Scaling Configuration")

    # Configure auto-scaling parameters
    registry.auto_scaling_enabled = True
    registry.min_agents_per_capability = 2
    registry.max_agents_per_capability = 10
    registry.scaling_thresholds = {
        'high_load': 0.8,      # Scale up when load > 80%
        'low_load': 0.3,       # Scale down when load < 30%
        'health_degraded': 0.6 # Replace agents with health < 60%
    }

    print(f"Thresholds: {dict(registry.scaling_thresholds)}")

    print("== Error Handling")

    try:
        await registry.register_agent({'agent_type': 'trading_agent'})
    except ValueError as error:
        print(f"Refused: {error}")

    print("== Information Retrieval")

    assert await registry.deregister_agent("trading_agent_001") is True
    assert await registry.deregister_agent("trading_agent_001") is False
    assert registry.get_agent_info("trading_agent_001") is None

    for name, value in registry.get_registry_stats().items():
        print(f"{name}: {value}")

    for agent_id in registered:  # else they are found until their leases end: NATS may be shared with others
        await registry.deregister_agent(agent_id)
    await registry.stop()
    await bus.stop()
# fmt: on


if __name__ == "__main__":
    asyncio.run(main())
