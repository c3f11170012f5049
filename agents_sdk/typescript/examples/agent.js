import { Agent } from "@agent-registry/sdk";

const agent = new Agent({ agentType: "trading_agent", capabilities: ["trading"], maxConcurrency: 4 });

agent.handle("quote", async ({ symbol }) => ({ symbol, price: 42.0 }));

await agent.run();
