"""The ranking gateway: `RankingService` over gRPC."""
