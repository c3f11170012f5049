import asyncio

from agents_sdk import RegistryClient, ServiceQuery


async def main() -> None:
    async with RegistryClient() as registry:
        traders = ServiceQuery(capabilities={"trading"})
        async with await registry.assign(traders, task_id="order-7", wait=10) as assignment:
            print(f"{assignment.agent.agent_id} has order-7, with token {assignment.fencing_token}")
            print(await assignment.call("quote", {"symbol": "BTC"}))


asyncio.run(main())
