// A daprd for tests: the runtime with only those components that the tests use, as all of them take long to build.
package main

import (
	"context"
	"log"
	"os"

	"github.com/dapr/components-contrib/nameresolution/sqlite"
	inmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	"github.com/dapr/components-contrib/pubsub/jetstream"
	"github.com/dapr/components-contrib/pubsub/rabbitmq"
	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

func main() {
	opts, err := options.New(os.Args[1:])
	if err == nil {
		opts.Logger.SetAppID(opts.AppID)
		err = logger.ApplyOptionsToLoggers(&opts.Logger)
	}
	if err == nil {
		err = run(signals.Context(), opts)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// components returns what the tests use.
func components() *registry.Options {
	logger := logger.NewLogger("dapr.contrib")
	pubsubs := pubsub.DefaultRegistry
	pubsubs.Logger = logger
	pubsubs.RegisterComponent(inmemory.New, "in-memory")
	pubsubs.RegisterComponent(jetstream.NewJetStream, "jetstream")
	pubsubs.RegisterComponent(rabbitmq.NewRabbitMQ, "rabbitmq")
	resolvers := nameresolution.DefaultRegistry
	resolvers.Logger = logger
	resolvers.RegisterComponent(sqlite.NewResolver, "sqlite")
	return registry.NewOptions().WithPubSubs(pubsubs).WithNameResolutions(resolvers)
}

// run serves until the context ends. Of the options of daprd, it knows those that the tests set.
func run(ctx context.Context, opts *options.Options) error {
	health := healthz.New()
	provider, err := security.New(ctx, security.Options{
		ControlPlaneTrustDomain: opts.ControlPlaneTrustDomain,
		ControlPlaneNamespace:   opts.ControlPlaneNamespace,
		AppID:                   opts.AppID,
		Mode:                    modes.DaprMode(opts.Mode),
		Healthz:                 health,
	})
	if err != nil {
		return err
	}
	serve := func(ctx context.Context) error {
		handler, err := provider.Handler(ctx)
		if err != nil {
			return err
		}
		instance, err := runtime.FromConfig(ctx, &runtime.Config{
			AppID:                         opts.AppID,
			AllowedOrigins:                opts.AllowedOrigins,
			ResourcesPath:                 opts.ResourcesPath,
			Config:                        opts.Config,
			Mode:                          opts.Mode,
			AppProtocol:                   opts.AppProtocol,
			ApplicationPort:               opts.AppPort,
			AppChannelAddress:             opts.AppChannelAddress,
			AppMaxConcurrency:             opts.AppMaxConcurrency,
			EnableAppHealthCheck:          opts.EnableAppHealthCheck,
			AppHealthCheckPath:            opts.AppHealthCheckPath,
			AppHealthProbeInterval:        opts.AppHealthProbeInterval,
			AppHealthProbeTimeout:         opts.AppHealthProbeTimeout,
			AppHealthThreshold:            opts.AppHealthThreshold,
			DaprAPIListenAddresses:        opts.DaprAPIListenAddresses,
			DaprHTTPPort:                  opts.DaprHTTPPort,
			DaprAPIGRPCPort:               opts.DaprAPIGRPCPort,
			DaprPublicPort:                opts.DaprPublicPort,
			DaprPublicListenAddress:       opts.DaprPublicListenAddress,
			DaprInternalGRPCPort:          opts.DaprInternalGRPCPort,
			DaprInternalGRPCListenAddress: opts.DaprInternalGRPCListenAddress,
			ProfilePort:                   opts.ProfilePort,
			MaxRequestSize:                opts.MaxRequestSize,
			ReadBufferSize:                opts.ReadBufferSize,
			DaprGracefulShutdownSeconds:   opts.DaprGracefulShutdownSeconds,
			DaprBlockShutdownDuration:     opts.DaprBlockShutdownDuration,
			EnableAPILogging:              opts.EnableAPILogging,
			DisableInitEndpoints:          opts.DisableInitEndpoints,
			SchedulerStreams:              opts.SchedulerJobStreams,
			Metrics:                       metrics.Options{Healthz: health},
			Registry:                      components(),
			Security:                      handler,
			Healthz:                       health,
		})
		if err != nil {
			return err
		}
		return instance.Run(ctx)
	}
	return concurrency.NewRunnerManager(provider.Run, serve).Run(ctx)
}
