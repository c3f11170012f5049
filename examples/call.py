import asyncio

from agents_sdk import RegistryClient


async def main() -> None:
    async with RegistryClient() as client:
        print(await client.call("trading", "quote", {"symbol": "BTC"}))


asyncio.run(main())
