from agents_sdk import Agent, Canary, InvalidRequestError, is_canary

agent = Agent("trading_agent", capabilities=["trading"], agent_id="quoter-1")
prices = {"BTC": 42.0}
asked = []


@agent.handle("quote", canary=Canary({"symbol": "BTC"}, expect={"symbol": "BTC"}, period=1.0))
def quote(request: dict) -> dict:
    if request["symbol"] not in prices:
        raise InvalidRequestError(f"symbol: no price of {request['symbol']} is known")
    if not is_canary():
        asked.append(request)  # only real requests are to leave traces
    return {"symbol": request["symbol"], "price": prices[request["symbol"]]}


@agent.handle("prices")
def set_prices(request: dict) -> dict:
    prices.clear()
    prices.update(request)
    return {"known": len(prices), "asked": len(asked)}


agent.run()
