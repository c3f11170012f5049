import { RegistryClient } from "@agent-registry/sdk";

const registry = await new RegistryClient().connect();
console.log(await registry.call("trading", "quote", { symbol: "BTC" }));
await registry.close();
